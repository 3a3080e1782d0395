# SPDX-License-Identifier: GPL-3.0-or-later
"""Every profile and every switch of the chart renders objects that hold all checks."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from tests.chart.checks import SERVICES, violations
from tests.chart.network import allows_the_arrows_only
from tests.chart.rendering import (
    CHART,
    KUBE_VERSION,
    PROFILES,
    TOGGLES,
    Object,
    arguments,
    helm,
    named,
    of_kind,
    render,
)

rendered = functools.cache(render)


def toggled(name: str) -> list[Object]:
    profile, values = TOGGLES[name]
    return render(profile, values)


@pytest.mark.parametrize("profile", PROFILES)
def test_lint_is_silent(profile: str) -> None:
    done = helm("lint", "--strict", "--kube-version", KUBE_VERSION, str(CHART), *arguments(profile))
    assert "0 chart(s) failed" in done.stdout, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout
    assert "[ERROR]" not in done.stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_profile_holds(profile: str) -> None:
    objects = rendered(profile)
    assert violations(objects) == []
    assert list(allows_the_arrows_only(objects)) == []


@pytest.mark.parametrize("toggle", TOGGLES)
def test_toggle_holds_and_changes_something(toggle: str) -> None:
    objects = toggled(toggle)
    assert violations(objects) == []
    assert list(allows_the_arrows_only(objects)) == []
    assert objects != rendered(TOGGLES[toggle][0])


def test_rendering_is_repeatable() -> None:
    assert render("cpu") == rendered("cpu")


def test_default_is_one_pod_that_needs_no_operator() -> None:
    objects = render("default", apis=())
    assert [each["metadata"]["name"] for each in of_kind(objects, "StatefulSet", "Deployment")] == ["gandt"]
    assert {each["apiVersion"].partition("/")[0] for each in objects} <= {"v1", "apps", "networking.k8s.io"}
    requests = named(objects, "StatefulSet", "gandt")["spec"]["template"]["spec"]["containers"][0]["resources"][
        "requests"
    ]
    assert requests == {"cpu": "1", "memory": "2Gi"}


def test_distributed_has_one_workload_a_service() -> None:
    names = {each["metadata"]["name"] for each in of_kind(rendered("cpu"), "Deployment")}
    assert names == {f"gandt-{name}" for name in SERVICES}


def test_ground_truth_starts_no_labeling_service() -> None:
    objects = rendered("aws")
    assert "gandt-labeling" not in {each["metadata"]["name"] for each in objects}
    env = named(objects, "Deployment", "gandt-jobcontroller")["spec"]["template"]["spec"]["containers"][0]["env"]
    given = {each["name"]: each.get("value") for each in env}
    assert given["GANDT_JOBCONTROLLER__BACKEND"] == "ground-truth"
    assert "GANDT_JOBCONTROLLER__ACCESS_KEY_ID" not in given, "the role of the account is used"


def test_without_milvus_and_database_their_services_own_a_volume() -> None:
    objects = render("cpu", {"milvus.uri": "", "vectorsearch.replicas": 1, "database.existingSecret": ""})
    names = {each["metadata"]["name"] for each in of_kind(objects, "StatefulSet")}
    assert names == {"gandt-vectorsearch", "gandt-jobcontroller", "gandt-labeling"}


def test_gpu_pods_go_to_the_pool() -> None:
    pod = named(rendered("gpu"), "Deployment", "gandt-embedding")["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"nvidia.com/gpu.present": "true"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["containers"][0]["image"].startswith("gandt/gpu:")
    others = [each for each in of_kind(rendered("gpu"), "Deployment") if each["metadata"]["name"] != "gandt-embedding"]
    assert not any("tolerations" in each["spec"]["template"]["spec"] for each in others)


def test_a_digest_wins_over_the_tag() -> None:
    pod = named(toggled("registry-and-digest"), "Deployment", "gandt-embedding")["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"].startswith("r.example.org/x/gandt/cpu@sha256:")


def test_replicas_are_left_to_the_scaler() -> None:
    for toggle, kind in (("hpa", "HorizontalPodAutoscaler"), ("keda", "ScaledObject")):
        objects = toggled(toggle)
        assert "replicas" not in named(objects, "Deployment", "gandt-embedding")["spec"]
        assert of_kind(objects, kind)


def test_zero_pods_are_woken_by_calls_to_the_controller() -> None:
    triggers = of_kind(toggled("keda-to-zero"), "ScaledObject")[0]["spec"]["triggers"]
    assert "CreateEmbeddingJob" in triggers[1]["metadata"]["query"]


def test_certificates_name_what_clients_call() -> None:
    objects = toggled("certificates")
    services = {each["metadata"]["name"] for each in of_kind(objects, "Service")}
    for each in of_kind(objects, "Certificate"):
        assert each["spec"]["dnsNames"][0] in services
        assert each["spec"]["usages"] == ["server auth", "client auth"]
    secrets = {each["spec"]["secretName"] for each in of_kind(objects, "Certificate")}
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        volumes = {v["name"]: v for v in each["spec"]["template"]["spec"]["volumes"]}
        assert volumes["tls"]["secret"]["secretName"] in secrets


def test_workers_reach_the_page_by_tls_only() -> None:
    ingress = of_kind(toggled("ingress"), "Ingress")[0]["spec"]
    assert ingress["tls"] == [{"hosts": ["l.example.org"], "secretName": "l-tls"}]
    for toggle in ("ingress", "gateway"):
        env = named(toggled(toggle), "Deployment", "gandt-labeling")["spec"]["template"]["spec"]["containers"][0]["env"]
        assert {"name": "GANDT_LABELING__PUBLIC_URL", "value": "https://l.example.org"} in env


def test_what_operators_are_needed_for_is_left_out_without_them() -> None:
    assert of_kind(rendered("default"), "PodMonitor", "PrometheusRule")
    assert not of_kind(render("default", apis=()), "PodMonitor", "PrometheusRule")


def test_extra_objects_are_templates(tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(
        "extraObjects: [{apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-mine'}}]\n", "utf-8"
    )
    done = helm("template", "x", str(CHART), "-f", str(values), "--kube-version", KUBE_VERSION)
    assert "name: 'x-mine'" in done.stdout or "name: x-mine" in done.stdout
