# SPDX-License-Identifier: GPL-3.0-or-later
"""The chart in a real API server: installed, scheduled, tested, upgraded, rolled back, and without any rights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.chart.cluster import Cluster
from tests.chart.rendering import CHART, arguments, of_kind, render

SECRETS = {
    "gandt-auth": ("token", "labeling-token", "labeling-secret", "access-key-id", "secret-access-key"),
    "gandt-s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "gandt-database": ("controller-url", "labeling-url"),
}
INSTALLED = {"default": (), "cpu": (), "gpu": ("--set", "embedding.replicas=2")}
"""Profiles that need no cloud, with further flags."""
QUICK = ("--set", "serve.drainSeconds=1,serve.preStopSeconds=1", "--wait", "--timeout", "90s")
"""kwok keeps a pod for its whole grace period."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    home = Path("/tmp") / f"gandt-kube-{os.getpid()}"
    home.mkdir(mode=0o700)
    made = Cluster(home)
    try:
        made.start()
        made.add_node("plain-1")
        made.add_node("plain-2")
        made.add_node("gpu-1", gpus=1)
        made.add_node("gpu-2", gpus=1)
        made.add_volumes(4)
        yield made
    finally:
        made.close()
        shutil.rmtree(home, ignore_errors=True)


def installed(cluster: Cluster, profile: str) -> str:
    """Installs a profile in a restricted namespace of its own, once; the namespace."""
    namespace = f"p-{profile}"
    if cluster.helm("status", "gandt", "-n", namespace, check=False).returncode == 0:
        return namespace
    cluster.add_namespace(namespace)
    for name, keys in SECRETS.items():
        given = [f"--from-literal={key}=x" for key in keys]
        cluster.kubectl("create", "secret", "generic", name, "-n", namespace, *given)
    done = cluster.helm(
        "install", "gandt", str(CHART), "-n", namespace, *QUICK, *arguments(profile), *INSTALLED[profile]
    )
    assert "would violate PodSecurity" not in done.stderr
    return namespace


@pytest.mark.parametrize("profile", INSTALLED)
def test_install_waits_until_all_pods_are_ready(cluster: Cluster, profile: str) -> None:
    namespace = installed(cluster, profile)
    wanted = sum(each["spec"]["replicas"] for each in of_kind(render(profile), "Deployment", "StatefulSet"))
    pods = cluster.objects("pods", namespace)
    assert len(pods) == wanted
    assert all(ready(pod) for pod in pods)
    done = cluster.helm("get", "notes", "gandt", "-n", namespace)
    assert f"helm test gandt -n {namespace}" in done.stdout
    assert "the Prometheus operator is not installed here" in done.stdout


@pytest.mark.parametrize("profile", ["local", "aws", "airgap", "airgap-cpu"])
def test_server_takes_the_other_profiles(cluster: Cluster, profile: str) -> None:
    namespace = f"dry-{profile}"
    cluster.add_namespace(namespace)
    done = cluster.helm(
        "install", "gandt", str(CHART), "-n", namespace, "--dry-run=server", *arguments(profile), check=False
    )
    assert done.returncode == 0, done.stderr
    rendered = [
        each for each in render(profile, apis=()) if "helm.sh/hook" not in each["metadata"].get("annotations", {})
    ]
    for each in rendered:
        each["metadata"]["namespace"] = namespace
    checked = cluster.kubectl(
        "apply", "-f", "-", "--dry-run=server", "--validate=strict", stdin=yaml_of(rendered), check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "Warning" not in checked.stderr


def test_gpu_pods_are_bound_to_the_pool_and_no_others(cluster: Cluster) -> None:
    pods = cluster.objects("pods", installed(cluster, "gpu"))
    where = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in pods}
    embedding = {node for name, node in where.items() if "-embedding-" in name}
    assert embedding == {"gpu-1", "gpu-2"}
    assert all(node.startswith("plain") for name, node in where.items() if "-embedding-" not in name)
    nodes = {each["metadata"]["name"]: each["spec"].get("taints", []) for each in cluster.objects("nodes", "default")}
    assert [taint["key"] for taint in nodes["gpu-1"]] == ["nvidia.com/gpu"]


def test_an_update_of_a_full_gpu_pool_ends(cluster: Cluster) -> None:
    namespace = installed(cluster, "gpu")
    before = {pod["metadata"]["uid"] for pod in cluster.objects("pods", namespace, "-l", component("embedding"))}
    cluster.helm(
        "upgrade",
        "gandt",
        str(CHART),
        "-n",
        namespace,
        *QUICK,
        *arguments("gpu"),
        "--set",
        "embedding.config.max_batch=32",
    )
    after = cluster.objects("pods", namespace, "-l", component("embedding"))
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in after)


def test_upgrade_and_rollback_keep_the_volume(cluster: Cluster) -> None:
    namespace = installed(cluster, "default")
    claim = cluster.objects("persistentvolumeclaims", namespace)[0]["metadata"]["uid"]
    log_level = "GANDT_STANDALONE__LOG_LEVEL"
    cluster.helm("upgrade", "gandt", str(CHART), "-n", namespace, *QUICK, "--set", "serve.logLevel=debug")
    assert variable(cluster, namespace, log_level) == "debug"
    cluster.helm("rollback", "gandt", "1", "-n", namespace, "--wait", "--timeout", "90s")
    assert variable(cluster, namespace, log_level) == "info"
    assert [each["metadata"]["uid"] for each in cluster.objects("persistentvolumeclaims", namespace)] == [claim]


def test_helm_test_runs_its_pod_and_reports(cluster: Cluster) -> None:
    """The pod is admitted and scheduled; its end is ours to play. test_round_trip.py runs its command."""
    namespace = installed(cluster, "default")
    for phase, expected in (("Succeeded", 0), ("Failed", 1)):
        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(cluster.helm, "test", "gandt", "-n", namespace, "--timeout", "60s", check=False)
            cluster.wait(lambda: "Running" in phases(cluster, namespace), "the pod of helm test")
            patch = json.dumps({"status": {"phase": phase}})
            cluster.kubectl(
                "patch", "pod", "gandt-test", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch
            )
            assert running.result().returncode == expected, running.result().stderr


def test_no_account_may_do_anything(cluster: Cluster) -> None:
    """No service asks the Kubernetes API for anything yet, so every right would be one too many."""
    for profile in ("default", "cpu"):
        namespace = installed(cluster, profile)
        accounts = [each["metadata"]["name"] for each in cluster.objects("serviceaccounts", namespace)]
        assert len(accounts) == (2 if profile == "default" else 7)  # and the namespace's `default`
        for account in accounts:
            for verb, kind in (("get", "secrets"), ("list", "pods"), ("create", "jobs"), ("update", "leases")):
                who = f"system:serviceaccount:{namespace}:{account}"
                done = cluster.kubectl("auth", "can-i", verb, kind, "-n", namespace, f"--as={who}", check=False)
                assert done.stdout.strip() == "no", f"{account} may {verb} {kind}"
    assert cluster.kubectl("auth", "can-i", "create", "jobs", "-n", "p-cpu").stdout.strip() == "yes", (
        "the check can fail"
    )


def test_restricted_admission_refuses_what_the_chart_avoids(cluster: Cluster) -> None:
    namespace = installed(cluster, "default")
    pod = cluster.objects("pods", namespace)[0]["spec"]
    spec = {key: pod[key] for key in ("containers", "securityContext")}
    for container in spec["containers"]:
        container.pop("volumeMounts")
    loose = {**spec, "securityContext": {**spec["securityContext"], "runAsNonRoot": False}}
    for name, given, expected in (("as-we-are", spec, 0), ("loose", loose, 1)):
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace},
            "spec": given,
        }
        done = cluster.kubectl("create", "--dry-run=server", "-f", "-", stdin=yaml_of([manifest]), check=False)
        assert done.returncode == expected, done.stderr


def test_uninstall_keeps_the_volume(cluster: Cluster) -> None:
    namespace = installed(cluster, "default")
    cluster.helm("uninstall", "gandt", "-n", namespace, "--wait", "--timeout", "90s")
    assert len(cluster.objects("persistentvolumeclaims", namespace)) == 1
    assert cluster.objects("statefulsets,services,networkpolicies", namespace) == []


def phases(cluster: Cluster, namespace: str) -> set[str]:
    """Phases of the pod of helm test."""
    return {pod["status"]["phase"] for pod in cluster.objects("pods", namespace, "-l", component("test"))}


def ready(pod: dict[str, Any]) -> bool:
    """Whether a pod is ready."""
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def component(name: str) -> str:
    """The selector of a service's pods."""
    return f"app.kubernetes.io/component={name}"


def variable(cluster: Cluster, namespace: str, name: str) -> str:
    """An environment variable of the standalone pod."""
    container = cluster.objects("pods", namespace, "-l", component("standalone"))[0]["spec"]["containers"][0]
    return next(str(each["value"]) for each in container["env"] if each["name"] == name)


def yaml_of(objects: list[Any]) -> str:
    """A manifest."""
    return str(yaml.safe_dump_all(objects))
