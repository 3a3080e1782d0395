# SPDX-License-Identifier: GPL-3.0-or-later
"""What `helm template` makes of the chart, as objects."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

CHART = ROOT / "charts/gandt"
KUBE_VERSION = "1.35.4"
RELEASE, NAMESPACE = "gandt", "vision"
Object = dict[str, Any]

OPERATORS = ("monitoring.coreos.com/v1", "cert-manager.io/v1", "keda.sh/v1alpha1", "gateway.networking.k8s.io/v1")
"""APIs that a cluster with every operator has."""

PROFILES: Mapping[str, Sequence[str]] = {
    "default": (),
    "local": ("values-local.yaml",),
    "cpu": ("values-cpu.yaml",),
    "gpu": ("values-cpu.yaml", "values-gpu.yaml"),
    "aws": ("values-aws.yaml",),
    "airgap": ("values-airgap.yaml",),
    "airgap-cpu": ("values-cpu.yaml", "values-airgap.yaml"),
}
"""Values files by profile, in the order in which they are given."""

DIGEST = "sha256:" + "0123456789abcdef" * 4
_KEDA = {"embedding.autoscaling.mode": "keda", "embedding.autoscaling.prometheusAddress": "http://prometheus:9090"}
TOGGLES: Mapping[str, tuple[str, Mapping[str, object]]] = {
    "without-volume": ("default", {"persistence.enabled": False}),
    "storage-class": ("default", {"persistence.storageClassName": "fast"}),
    "with-secret": ("default", {"auth.existingSecret": "gandt-auth"}),
    "without-policies": ("default", {"auth.existingSecret": "gandt-auth", "networkPolicy.enabled": False}),
    "dashboards": ("default", {"monitoring.dashboards": True, "monitoring.labels.release": "kps"}),
    "unmonitored": ("cpu", {"monitoring.podMonitor": False, "monitoring.rules": False}),
    "registry-and-digest": ("cpu", {"image.registry": "r.example.org/x", "images.cpu.digest": DIGEST}),
    "without-database": ("cpu", {"database.existingSecret": ""}),
    "without-milvus": ("cpu", {"milvus.uri": "", "vectorsearch.replicas": 1}),
    "milvus-token": ("cpu", {"milvus.existingSecret": "gandt-milvus"}),
    "amazon-s3": ("cpu", {"s3.endpoint": "", "s3.existingSecret": ""}),
    "certificates": ("cpu", {"tls.enabled": True, "tls.certManager.issuer": "gandt-ca"}),
    "own-certificates": ("gpu", {"tls.enabled": True, "tls.existingSecret": "gandt-tls"}),
    "ingress": ("cpu", {"ingress.enabled": True, "ingress.host": "l.example.org", "ingress.tlsSecret": "l-tls"}),
    "gateway": (
        "cpu",
        {"gateway.enabled": True, "gateway.host": "l.example.org", "gateway.parentRefs[0].name": "public"},
    ),
    "hpa": ("gpu", {"embedding.autoscaling.mode": "hpa"}),
    "keda": ("gpu", _KEDA),
    "keda-to-zero": ("gpu", {**_KEDA, "embedding.autoscaling.minReplicas": 0}),
    "mig": (
        "gpu",
        {"embedding.gpu.resourceName": "nvidia.com/mig-1g.10gb", "embedding.gpu.runtimeClassName": "nvidia"},
    ),
    "our-labeling-on-aws": ("aws", {"backend.kind": "labeling"}),
    "cpu-limit": ("cpu", {"embedding.resources.limits.cpu": 4, "embedding.config.max_batch": 16}),
    "pod-extras": (
        "cpu",
        {"priorityClassName": "high", "podLabels.team": "vision", "podAnnotations.note": "x", "nodeSelector.pool": "a"},
    ),
    "long-name": ("cpu", {"fullnameOverride": "a-name-that-is-longer-than-any-name-should-ever-be-in-a-cluster"}),
}
"""By name: the profile that it starts from, and what is set beside it."""


def tool(name: str) -> str:
    """A program of `make tools`; without it the test skips with the reason, but in CI it fails."""
    cached = ROOT / ".tools" / name
    found = str(cached) if cached.exists() else shutil.which(name)
    if found is None:
        message = f"{name} is not here: `CI=true make tools` builds it with Go, or unpacks it from a Debian package"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs helm, which finds no configuration of the machine's."""
    home = dict.fromkeys(("HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME", "KUBECONFIG"), "/nonexistent")
    return subprocess.run(
        [tool("helm"), *arguments], capture_output=True, text=True, check=False, env={**os.environ, **home}
    )


def arguments(profile: str, values: Mapping[str, object] | None = None, chart: Path = CHART) -> list[str]:
    """Helm's flags for a profile with further values."""
    files = [flag for name in PROFILES[profile] for flag in ("-f", str(chart / name))]
    return files + [
        flag for key, value in (values or {}).items() for flag in ("--set", f"{_escaped(key)}={_text(value)}")
    ]


def render(
    profile: str, values: Mapping[str, object] | None = None, chart: Path = CHART, apis: Sequence[str] = OPERATORS
) -> list[Object]:
    """All objects of a profile.

    Raises:
        ValueError: helm refuses; its words.
    """
    flags = [flag for api in apis for flag in ("--api-versions", api)]
    done = helm(
        "template", RELEASE, str(chart), "-n", NAMESPACE, "--kube-version", KUBE_VERSION,
        *flags, *arguments(profile, values, chart),
    )  # fmt: skip
    if done.returncode:
        raise ValueError(done.stderr.strip())
    return [each for each in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if each]


def of_kind(objects: Sequence[Object], *kinds: str) -> list[Object]:
    """The objects of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: Sequence[Object], kind: str, name: str) -> Object:
    """One object."""
    return next(each for each in objects if each["kind"] == kind and each["metadata"]["name"] == name)


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace(",", r"\,")


def _escaped(key: str) -> str:
    return key
