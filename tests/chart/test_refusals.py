# SPDX-License-Identifier: GPL-3.0-or-later
"""What the chart refuses before anything is installed, and in which words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.chart.rendering import render

TYPOS: list[tuple[str, Mapping[str, object]]] = [
    ("default", {"moode": "standalone"}),
    ("default", {"mode": "cluster"}),
    ("default", {"image.tagg": "1"}),
    ("default", {"image.pullPolicy": "Sometimes"}),
    ("default", {"image.registry": "r.example.org/"}),
    ("default", {"images.cpu.digest": "sha256:12"}),
    ("default", {"images.tpu.repository": "x"}),
    ("default", {"auth.secret": "x"}),
    ("default", {"auth.existingSecret": "Not_A_Name"}),
    ("default", {"persistence.enabled": "maybe"}),
    ("default", {"serve.drainSeconds": 0}),
    ("default", {"podSecurity.runAsUser": 0}),
    ("cpu", {"embedding.replica": 2}),
    ("cpu", {"embedding.replicas": -1}),
    ("cpu", {"embedding.config.max_bach": 8}),
    ("cpu", {"embedding.config.token": "secret"}),
    ("cpu", {"embedding.config.port": 1}),
    ("cpu", {"selection.config.max_batch": 8}),
    ("cpu", {"selection.gpu.enabled": True}),
    ("cpu", {"embedding.gpu.count": 0}),
    ("cpu", {"embedding.autoscaling.mode": "auto"}),
    ("cpu", {"embedding.resources.limit.memory": "1Gi"}),
    ("cpu", {"milvus.uri": "milvus:19530"}),
    ("cpu", {"tls.certManager.kind": "Vault"}),
    ("cpu", {"networkPolicy.objects.ports[0]": 0}),
    ("cpu", {"monitoring.label.release": "x"}),
]

IMPOSSIBLE: list[tuple[str, Mapping[str, object], str]] = [
    ("default", {"mode": "distributed"}, "set s3.bucket"),
    ("default", {"mode": "distributed", "s3.bucket": "b"}, "needs auth.existingSecret"),
    ("default", {"networkPolicy.enabled": False}, "everybody in the cluster"),
    ("default", {"backend.kind": "ground-truth"}, "needs mode=distributed"),
    ("default", {"tls.enabled": True}, "needs mode=distributed"),
    ("default", {"embedding.gpu.enabled": True}, "no CUDA"),
    ("default", {"embedding.autoscaling.mode": "hpa"}, "runs once"),
    ("cpu", {"milvus.uri": ""}, "vectorsearch.replicas=2 needs a Milvus server"),
    ("cpu", {"database.existingSecret": "", "jobcontroller.replicas": 2}, "jobcontroller.replicas=2 needs PostgreSQL"),
    ("cpu", {"labeling.replicas": 2}, "labeling.replicas must be 1"),
    ("aws", {"backend.roleArn": ""}, "needs backend.region, roleArn"),
    ("cpu", {"tls.enabled": True}, "tls.certManager.issuer"),
    ("cpu", {"ingress.enabled": True, "ingress.host": "l.example.org"}, "ingress.tlsSecret"),
    ("cpu", {"gateway.enabled": True}, "gateway.parentRefs"),
    (
        "cpu",
        {"gateway.enabled": True, "ingress.enabled": True, "ingress.host": "a.b", "ingress.tlsSecret": "c"},
        "choose one",
    ),
    ("aws", {"ingress.enabled": True, "ingress.host": "a.b", "ingress.tlsSecret": "c"}, "turn them off"),
    ("gpu", {"embedding.autoscaling.mode": "hpa", "embedding.autoscaling.minReplicas": 0}, "cannot scale to zero"),
    ("gpu", {"embedding.autoscaling.mode": "keda"}, "prometheusAddress"),
    ("gpu", {"embedding.autoscaling.mode": "hpa", "embedding.autoscaling.minReplicas": 9}, "above maxReplicas"),
    ("cpu", {"persistence.enabled": False, "database.existingSecret": ""}, "loses vectors and labels"),
]


@pytest.mark.parametrize(("profile", "values"), TYPOS, ids=[" ".join(values) for _, values in TYPOS])
def test_schema_refuses(profile: str, values: Mapping[str, object]) -> None:
    with pytest.raises(ValueError, match="values don't meet the specifications of the schema"):
        render(profile, values)


@pytest.mark.parametrize(("profile", "values", "words"), IMPOSSIBLE, ids=[words for *_, words in IMPOSSIBLE])
def test_impossible_values_are_refused_with_the_next_step(
    profile: str, values: Mapping[str, object], words: str
) -> None:
    with pytest.raises(ValueError, match=words.replace(".", r"\.")):
        render(profile, values)


@pytest.mark.parametrize("missing", ["cert-manager.io/v1", "keda.sh/v1alpha1"])
def test_a_missing_operator_is_named(missing: str) -> None:
    values: dict[str, object] = {"tls.enabled": True, "tls.certManager.issuer": "ca"}
    if "keda" in missing:
        values = {"embedding.autoscaling.mode": "keda", "embedding.autoscaling.prometheusAddress": "http://p:9090"}
    with pytest.raises(ValueError, match="is not installed: install it"):
        render("cpu", values, apis=())
