# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may talk to whom under the rendered network policies, worked out as a network plugin would."""

from __future__ import annotations

from typing import Any

from tests.chart.checks import Found, selects
from tests.chart.rendering import Object, of_kind

CALLS = {
    "embedding": set(),
    "vectorsearch": set(),
    "selection": {"vectorsearch"},
    "aggregation": set(),
    "jobcontroller": {"embedding", "vectorsearch", "selection", "aggregation", "labeling"},
    "labeling": {"jobcontroller"},
}
"""The design's table of services, column `calls`."""
PORTS = {
    "embedding": 50051, "vectorsearch": 50052, "selection": 50053, "aggregation": 50054, "jobcontroller": 50055,
    "labeling": 8080,
}  # fmt: skip
METRICS = {"embedding": 9051, "vectorsearch": 9052, "selection": 9053, "aggregation": 9054, "jobcontroller": 9055} | {
    "labeling": 9056
}
CLIENT = {"metadata": {"labels": {"gandt-client": "true"}}}
STRANGER = {"metadata": {"labels": {"app": "stranger"}}}


def allows_the_arrows_only(objects: list[Object]) -> Found:
    """Between services exactly the design's arrows; clients reach services; strangers reach nothing; nobody is open."""
    policies = of_kind(objects, "NetworkPolicy")
    if not policies:
        return
    templates = {
        each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]: each["spec"]["template"]
        for each in of_kind(objects, "Deployment", "StatefulSet")
    }
    for name, template in templates.items():
        for direction in ("Ingress", "Egress"):
            if not any(applies(p, template, direction) for p in policies):
                yield f"{name}: {direction} is open"
        if may(policies, STRANGER, template, PORTS.get(name, 50055)):
            yield f"a stranger may call {name}"
        if any(
            "from" not in rule
            for p in policies
            if applies(p, template, "Ingress")
            for rule in p["spec"].get("ingress", [])
        ):
            yield f"everybody may call {name}"
    if "standalone" in templates:
        yield from (
            f"a client may not call {m}" for m in PORTS if not may(policies, CLIENT, templates["standalone"], PORTS[m])
        )
        return
    for caller, source in templates.items():
        for callee, target in templates.items():
            allowed = may(policies, source, target, PORTS[callee])
            if caller != callee and allowed != (callee in CALLS[caller]):
                yield f"{caller} {'may' if allowed else 'may not'} call {callee}"
            if may(policies, source, target, METRICS[callee]):
                yield f"{caller} may read the metrics of {callee}"
    yield from (f"a client may not call {n}" for n, t in templates.items() if not may(policies, CLIENT, t, PORTS[n]))


def may(policies: list[Object], source: Any, target: Any, port: int) -> bool:
    """Whether both ends allow a connection between two pods of the namespace."""
    out = [p for p in policies if applies(p, source, "Egress")]
    into = [p for p in policies if applies(p, target, "Ingress")]
    return (not out or any(passes(rules(p, "egress"), "to", target, port) for p in out)) and (
        not into or any(passes(rules(p, "ingress"), "from", source, port) for p in into)
    )


def applies(policy: Object, template: Any, direction: str) -> bool:
    """Whether a policy chooses a pod."""
    spec = policy["spec"]
    return direction in spec["policyTypes"] and selects(spec["podSelector"].get("matchLabels", {}), template)


def rules(policy: Object, direction: str) -> list[Any]:
    """The rules of a policy in one direction."""
    return list(policy["spec"].get(direction) or [])


def passes(listed: list[Any], key: str, peer: Any, port: int) -> bool:
    """Whether some rule lets a pod of the namespace through."""
    return any(
        (not rule.get("ports") or any(p["port"] == port for p in rule["ports"]))
        and (key not in rule or any(peer_is(each, peer) for each in rule[key]))
        for rule in listed
    )


def peer_is(given: Any, template: Any) -> bool:
    """Whether a peer names a pod of the same namespace."""
    if "namespaceSelector" in given or "ipBlock" in given:
        return False
    return selects(given["podSelector"].get("matchLabels", {}), template)
