# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for every rendering of the chart. Each check lists what is wrong; no check changes anything."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.chart.rendering import Object, of_kind
from tests.chart.schemas import errors

Found = Iterator[str]
SERVICES = ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller", "labeling")
RUNS_ONCE = ("jobcontroller", "labeling")
FOREIGN_VARIABLES = {"HOME", "XDG_CACHE_HOME", "OMP_NUM_THREADS"} | {
    "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",
}  # fmt: skip


def violations(objects: list[Object]) -> list[str]:
    """Everything that is wrong with a rendering."""
    return [f"{check.__name__}: {found}" for check in CHECKS for found in check(objects)]


def follows_the_schemas(objects: list[Object]) -> Found:
    """Kubernetes knows every key, and every value has its type."""
    for each in objects:
        yield from errors(each)


def is_named_well(objects: list[Object]) -> Found:
    """Names are unique, at most 63 long (52 for a StatefulSet), and every object says its namespace."""
    keys = Counter((each["kind"], each["metadata"]["name"]) for each in objects)
    yield from (f"{kind}/{name} twice" for (kind, name), count in keys.items() if count > 1)
    for each in objects:
        name = each["metadata"]["name"]
        if len(name) > (52 if each["kind"] == "StatefulSet" else 63):
            yield f"{each['kind']}/{name} is too long"
        if "namespace" not in each["metadata"]:
            yield f"{each['kind']}/{name} has no namespace"


def is_restricted(objects: list[Object]) -> Found:
    """The restricted Pod Security Standard, and a read-only root besides."""
    for name, pod in pods(objects):
        security = pod.get("securityContext", {})
        if not security.get("runAsNonRoot") or security.get("runAsUser", 0) == 0:
            yield f"{name} may run as root"
        if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{name} has no seccomp profile"
        if any(key in pod for key in ("hostNetwork", "hostPID", "hostIPC")):
            yield f"{name} uses the host's namespaces"
        allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected"}
        yield from (f"{name}: volume {v['name']}" for v in pod.get("volumes", []) if not set(v) & allowed)
        for container in containers(pod):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
                yield f"{name}/{container['name']} may gain privileges"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{name}/{container['name']} has capabilities"
            if own.get("readOnlyRootFilesystem") is not True:
                yield f"{name}/{container['name']} may write to its root"


def uses_no_cluster_rights(objects: list[Object]) -> Found:
    """Every pod has its own account, none carries a token, and nobody is bound to a role: no service asks for any."""
    accounts = {each["metadata"]["name"]: each for each in of_kind(objects, "ServiceAccount")}
    used = []
    for name, pod in pods(objects):
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{name} carries a token"
        account = pod.get("serviceAccountName")
        if account is None and not name.startswith("Pod/"):
            yield f"{name} has no account of its own"
        if account is not None and account not in accounts:
            yield f"{name}: there is no account {account}"
        used += [account] if account else []
    yield from (f"account {account} is shared" for account, count in Counter(used).items() if count > 1)
    yield from (f"{each['kind']} binds rights" for each in of_kind(objects, "RoleBinding", "ClusterRoleBinding"))


def is_probed(objects: list[Object]) -> Found:
    """Startup and readiness ask the service's own state, liveness the process; gRPC on the plaintext health port."""
    for name, pod in workloads(objects):
        container = pod["containers"][0]
        ports = {port["containerPort"] for port in container["ports"]} | {port["name"] for port in container["ports"]}
        asked = {}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container.get(kind, {})
            target = probe.get("grpc") or probe.get("httpGet")
            if target is None:
                yield f"{name} has no {kind}"
                continue
            if target["port"] not in ports:
                yield f"{name}: {kind} asks port {target['port']}, which is not open"
            if "grpc" in probe and not 50061 <= target["port"] <= 50065:
                yield f"{name}: {kind} asks port {target['port']}, which may speak TLS"
            asked[kind] = (target.get("service", ""), target.get("path", ""))
        if asked.get("livenessProbe") in (asked.get("readinessProbe"), asked.get("startupProbe")):
            yield f"{name}: liveness is readiness, so a busy pod would be killed"
        startup = container.get("startupProbe", {})
        if startup.get("failureThreshold", 0) * startup.get("periodSeconds", 10) < 120:
            yield f"{name} gets less than two minutes to start"


def drains(objects: list[Object]) -> Found:
    """The pod's grace period holds the pause, the drain and something beside."""
    for name, pod in workloads(objects):
        container = pod["containers"][0]
        pause = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        seconds = [float(v["value"]) for v in container["env"] if v["name"].endswith("__DRAIN_SECONDS")]
        if pause < 6:
            yield f"{name} stops before clients notice (resolver floor 5 s)"
        if not seconds or pod.get("terminationGracePeriodSeconds", 30) < pause + max(seconds) + 10:
            yield f"{name} is killed before it has drained"


def asks_for_resources(objects: list[Object]) -> Found:
    """Requests for the scheduler, a limit of memory, and extended resources the same in both."""
    for name, pod in pods(objects):
        for container in containers(pod):
            wanted = container.get("resources", {})
            requests, limits = wanted.get("requests", {}), wanted.get("limits", {})
            if not {"cpu", "memory"} <= set(requests) or "memory" not in limits:
                yield f"{name}/{container['name']} does not say what it needs"
            for key in {*requests, *limits}:
                if "/" in key and requests.get(key) != limits.get(key):
                    yield f"{name}: {key} differs between request and limit"


def pins_images(objects: list[Object]) -> Found:
    """A tag that is not `latest`, or a digest."""
    for name, pod in pods(objects):
        for container in containers(pod):
            tag = container["image"].rpartition("/")[2]
            if ":" not in tag or tag.endswith(":latest"):
                yield f"{name}/{container['name']} runs {container['image']}"


def wires_services(objects: list[Object]) -> Found:
    """Services find pods and ports; gRPC ones are headless and do not publish pods that are loading."""
    sets = {each["metadata"]["name"]: each for each in of_kind(objects, "Deployment", "StatefulSet")}
    for each in of_kind(objects, "Service"):
        name, spec = each["metadata"]["name"], each["spec"]
        chosen = [w for w in sets.values() if selects(spec["selector"], w["spec"]["template"])]
        if len(chosen) != 1:
            yield f"Service {name} finds {len(chosen)} workloads"
            continue
        ports = {port["name"] for port in chosen[0]["spec"]["template"]["spec"]["containers"][0]["ports"]}
        yield from (f"Service {name}: no port {p['targetPort']}" for p in spec["ports"] if p["targetPort"] not in ports)
        if any(port["name"].startswith("grpc") for port in spec["ports"]) and spec.get("clusterIP") != "None":
            yield f"Service {name} gives all gRPC calls of a connection to one pod"
        if spec.get("publishNotReadyAddresses"):
            yield f"Service {name} publishes pods that are loading"
    for each in sets.values():
        template = each["spec"]["template"]
        if not selects(each["spec"]["selector"]["matchLabels"], template):
            yield f"{each['metadata']['name']} does not select its own pods"
        mounts = {m["name"] for c in containers(template["spec"]) for m in c.get("volumeMounts", [])}
        volumes = {v["name"] for v in template["spec"]["volumes"]}
        volumes |= {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
        if mounts != volumes:
            yield f"{each['metadata']['name']}: volumes {sorted(mounts ^ volumes)} are not both given and mounted"


def configures_known_settings(objects: list[Object]) -> Found:
    """Every variable is a setting of the service that gets it, once, and no secret stands in plain text."""
    known = dict(variables())
    for name, pod in pods(objects):
        for container in containers(pod):
            given = [variable["name"] for variable in container.get("env", [])]
            yield from (f"{name}: {key} twice" for key, count in Counter(given).items() if count > 1)
            yield from (
                f"{name}: nobody reads {key}" for key in given if key not in known and key not in FOREIGN_VARIABLES
            )
            for variable in container.get("env", []):
                if known.get(variable["name"]) and "value" in variable:
                    yield f"{name}: {variable['name']} is a secret in plain text"
    yield from (f"Secret {each['metadata']['name']}" for each in of_kind(objects, "Secret"))


def reaches_what_it_calls(objects: list[Object]) -> Found:
    """Endpoints name services of the release, gRPC ones by a resolver that sees every pod."""
    offered = {
        f"{each['metadata']['name']}:{port['port']}"
        for each in of_kind(objects, "Service")
        for port in each["spec"]["ports"]
    }
    for name, pod in pods(objects):
        for variable in pod["containers"][0].get("env", []):
            key, value = variable["name"], variable.get("value", "")
            if not key.startswith("GANDT_ENDPOINTS__") or not value or value.startswith("/"):
                continue
            scheme, _, target = value.rpartition("//")
            if target not in offered:
                yield f"{name}: {key} names {target}, which no service offers"
            if scheme != ("http:" if key.endswith("LABELING") else "dns:/"):
                yield f"{name}: {key} = {value} does not balance over pods"


def tolerates_disruption(objects: list[Object]) -> Found:
    """A disruption budget where there are several pods, and only there; what may run once is recreated."""
    budgets = [each["spec"]["selector"]["matchLabels"] for each in of_kind(objects, "PodDisruptionBudget")]
    for each in of_kind(objects, "Deployment", "StatefulSet"):
        name, spec = each["metadata"]["name"], each["spec"]
        several = spec.get("replicas", 2) > 1
        guarded = any(selects(labels, spec["template"]) for labels in budgets)
        if several != guarded:
            yield f"{name}: {spec.get('replicas', 'scaled')} pods, disruption budget {guarded}"
        if len(spec["template"]["spec"].get("topologySpreadConstraints", [])) < 2:
            yield f"{name} is not spread over nodes and zones"
        component = spec["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
        if each["kind"] == "Deployment" and component in RUNS_ONCE and spec["strategy"]["type"] != "Recreate":
            yield f"{name}: two of it would run at once"
        devices = spec["template"]["spec"]["containers"][0]["resources"].get("limits", {})
        if (
            any("nvidia.com/" in key for key in devices)
            and spec["strategy"].get("rollingUpdate", {}).get("maxSurge") != 0
        ):
            yield f"{name}: an update of a full GPU pool would wait for ever"


def keeps_its_data(objects: list[Object]) -> Found:
    """A StatefulSet's volume outlives it."""
    for each in of_kind(objects, "StatefulSet"):
        spec = each["spec"]
        retention = spec.get("persistentVolumeClaimRetentionPolicy")
        if spec.get("volumeClaimTemplates") and retention != {"whenDeleted": "Retain", "whenScaled": "Retain"}:
            yield f"{each['metadata']['name']}: its volume goes with it"
        if spec["replicas"] != 1:
            yield f"{each['metadata']['name']}: {spec['replicas']} pods share one directory's work"


def pods(objects: Iterable[Object]) -> Iterator[tuple[str, Any]]:
    """Pod specs with the name of what makes them."""
    for each in objects:
        if each["kind"] in ("Deployment", "StatefulSet", "Job"):
            yield f"{each['kind']}/{each['metadata']['name']}", each["spec"]["template"]["spec"]
        elif each["kind"] == "Pod":
            yield f"Pod/{each['metadata']['name']}", each["spec"]


def workloads(objects: Iterable[Object]) -> Iterator[tuple[str, Any]]:
    """Pod specs of what serves."""
    return ((name, pod) for name, pod in pods(objects) if not name.startswith("Pod/"))


def containers(pod: Any) -> list[Any]:
    """All containers of a pod."""
    return [*pod.get("initContainers", []), *pod["containers"]]


def selects(labels: dict[str, str], template: Any) -> bool:
    """Whether labels choose the pods of a template."""
    return bool(labels.items() <= template["metadata"]["labels"].items())


def variables() -> Iterator[tuple[str, bool]]:
    """Every environment variable that the code reads, and whether it is a secret."""
    modules = [f"gandt_{name}.settings" for name in (*SERVICES, "standalone")]
    classes = [importlib.import_module(module).Settings for module in modules]
    for cls in [*classes, importlib.import_module("gandt.runtime.peers").EndpointSettings]:
        for key in cls.known_keys():
            secret = "SecretStr" in str(cls.model_fields[key].annotation) or key == "database_url"
            yield f"{cls.model_config['env_prefix']}{key}".upper(), secret


CHECKS: tuple[Callable[[list[Object]], Found], ...] = (
    follows_the_schemas,
    is_named_well,
    is_restricted,
    uses_no_cluster_rights,
    is_probed,
    drains,
    asks_for_resources,
    pins_images,
    wires_services,
    configures_known_settings,
    reaches_what_it_calls,
    tolerates_disruption,
    keeps_its_data,
)
