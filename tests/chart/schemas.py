# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes' own JSON schemas, strict: an unknown key is an error."""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
from typing import Any

import jsonschema
from referencing import Registry, Resource

from tests.chart.rendering import KUBE_VERSION, Object

CUSTOM = ("monitoring.coreos.com/", "cert-manager.io/", "keda.sh/", "gateway.networking.k8s.io/")
"""Kinds of operators: their schemas come with the operators, not with Kubernetes."""


def errors(each: Object) -> list[str]:
    """What the schema says against an object; the path first."""
    if each["apiVersion"].startswith(CUSTOM):
        return []
    name = f"{each['kind']}/{each['metadata']['name']}"
    found = _validator(each["kind"], each["apiVersion"]).iter_errors(each)
    return [f"{name} {error.json_path}: {error.message[:200]}" for error in found]


@functools.cache
def _validator(kind: str, api: str) -> Any:
    short = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
    registry = Resource.from_contents(_schema("_definitions")) @ Registry()
    schema = _schema(f"{kind.lower()}-{short}")
    return jsonschema.Draft202012Validator(schema, registry=Resource.from_contents(schema) @ registry)


@functools.cache
def _schema(name: str) -> Any:
    folder = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    minor = ".".join(KUBE_VERSION.split(".")[:2])
    version = next(f.name for f in folder.iterdir() if f.name.startswith(f"v{minor}") and f.name.endswith("-strict"))
    return json.loads((folder / version / f"{name}.json").read_text(encoding="utf-8"))
