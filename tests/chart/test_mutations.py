# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: E501 (a breakage is a line)
"""The checks can fail: each of these breakages of the chart is caught by at least one of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chart.checks import violations
from tests.chart.network import allows_the_arrows_only
from tests.chart.rendering import CHART, render


@dataclass(frozen=True)
class Mutation:
    """One breakage.

    Args:
        name: what breaks.
        file: of the chart.
        old, new: the text and what it becomes; it must be there.
        says: words of the check that catches it.
        profile: which one shows it.
    """

    name: str
    file: str
    old: str
    new: str
    says: str
    profile: str = "cpu"


MUTATIONS = [
    Mutation("runs as root", "templates/_pod.tpl", "runAsNonRoot: true", "runAsNonRoot: false", "may run as root"),
    Mutation("no seccomp", "templates/_pod.tpl", "type: RuntimeDefault", "type: Unconfined", "no seccomp"),
    Mutation("writable root", "templates/_pod.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "write to its root"),
    Mutation("capabilities", "templates/_pod.tpl", "capabilities: {drop: [ALL]}", "capabilities: {add: [NET_ADMIN]}", "has capabilities"),
    Mutation("token", "templates/_pod.tpl", "automountServiceAccountToken: false", "automountServiceAccountToken: true", "carries a token"),
    Mutation("unknown key", "templates/_pod.tpl", "enableServiceLinks: false", "enableServiceLink: false", "enableServiceLink"),
    Mutation("probe on the TLS port", "templates/_pod.tpl", "livenessProbe: {grpc: {port: {{ int $fact.health }}}", "livenessProbe: {grpc: {port: {{ int $fact.port }}}", "may speak TLS"),
    Mutation("liveness is readiness", "templates/_pod.tpl", "path: /healthz", "path: /readyz", "a busy pod would be killed"),
    Mutation("short grace", "templates/_pod.tpl", "(int $v.serve.drainSeconds) 10", "0", "killed before it has drained"),
    Mutation("no pause", "values.yaml", "preStopSeconds: 6", "preStopSeconds: 1", "before clients notice"),
    Mutation("ClusterIP for gRPC", "templates/_workload.tpl", "clusterIP: None", "type: ClusterIP", "to one pod"),
    Mutation("wrong target port", "templates/_workload.tpl", "targetPort: g-{{ $member }}", "targetPort: grpc", "no port grpc"),
    Mutation("endpoint without resolver", "templates/_env.tpl", "value: dns:///", "value: ", "does not balance"),
    Mutation("wrong endpoint port", "templates/_facts.tpl", "port: 50052, health", "port: 50152, health", "vectorsearch"),
    Mutation("misspelled setting", "templates/_env.tpl", '"DRAIN_SECONDS"', '"DRAIN_SECOND"', "nobody reads"),
    Mutation("secret in plain text", "templates/_env.tpl", '"REFLECTION" $v.serve.reflection', '"TOKEN" "letmein"', "TOKEN twice"),
    Mutation("no default deny", "templates/networkpolicies.yaml", "policyTypes: [Ingress, Egress]\n  ingress:", "policyTypes: [Ingress]\n  ingress:", "may"),
    Mutation("an arrow too many", "templates/_facts.tpl", "calls: [vectorsearch], reaches", "calls: [vectorsearch, embedding], reaches", "selection may call embedding"),
    Mutation("an arrow too few", "templates/_facts.tpl", "calls: [embedding, vectorsearch, ", "calls: [vectorsearch, ", "may not call embedding"),
    Mutation("open to strangers", "templates/networkpolicies.yaml", '"gandt-client" "true"', '"app" "stranger"', "a stranger may call"),
    Mutation("two labeling services at once", "templates/_workload.tpl", 'has .name (list "jobcontroller" "labeling")', 'has .name (list "jobcontroller")', "two of it"),
    Mutation("surge on a full GPU pool", "templates/_workload.tpl", "maxSurge: 0, maxUnavailable: 1", "maxSurge: 1, maxUnavailable: 0", "wait for ever", "gpu"),
    Mutation("GPU requested, not limited", "templates/_pod.tpl", '$_ := set $resources "limits" (merge (dict) $card', '$_ := set $resources "limits" (merge (dict)', "differs between request and limit", "gpu"),
    Mutation("no disruption budget", "templates/_workload.tpl", "gt (int $own.replicas) 1", "gt (int $own.replicas) 5", "disruption budget False"),
    Mutation("latest image", "templates/_names.tpl", "default .root.Chart.AppVersion .root.Values.image.tag", 'default "latest" .root.Values.image.tag', "runs gandt/"),
    Mutation("volume deleted", "templates/_workload.tpl", "whenDeleted: Retain", "whenDeleted: Delete", "goes with it", "default"),
    Mutation("shared account", "templates/_pod.tpl", 'serviceAccountName: {{ include "gandt.object" . }}', "serviceAccountName: gandt-embedding", "is shared"),
    Mutation("no requests", "values.yaml", "requests: {cpu: 500m, memory: 1Gi}", "requests: {}", "does not say what it needs"),
    Mutation("volume not mounted", "templates/_pod.tpl", "        - {name: cache, mountPath: /cache}\n", "", "not both given and mounted"),
]  # fmt: skip


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_breakage_is_caught(mutation: Mutation, tmp_path: Path) -> None:
    broken = tmp_path / "gandt"
    shutil.copytree(CHART, broken)
    path = broken / mutation.file
    text = path.read_text(encoding="utf-8")
    assert mutation.old in text, "the breakage no longer applies: change it with the chart"
    path.write_text(text.replace(mutation.old, mutation.new), encoding="utf-8")
    objects = render(mutation.profile, chart=broken)
    found = [*violations(objects), *allows_the_arrows_only(objects)]
    assert any(mutation.says in line for line in found), found
