# SPDX-License-Identifier: GPL-3.0-or-later
"""values.schema.json of the chart: unknown keys are errors, the services' `config` keys come from the code.

`make reference` writes it.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "charts/gandt/values.schema.json"
SERVICES = ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller", "labeling")
SET_BY_CHART = {"host", "port", "health_port", "metrics_port", "data_dir", "token", "tls_cert_file", "tls_key_file"} | {
    "tls_client_ca_file", "access_key_id", "secret_access_key", "secret", "database_url", "milvus_token",
}  # fmt: skip
"""Settings that `config` must not carry: addresses are fixed by the design, secrets come by reference."""

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "object", "additionalProperties": TEXT}
OBJECTS: Schema = {"type": "array", "items": {"type": "object"}}
SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0}
SECRET: Schema = {"type": "string", "pattern": "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"}
DIGEST: Schema = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
QUANTITIES: Schema = {"type": "object", "additionalProperties": {"type": ["string", "number"]}}


def closed(**properties: Schema) -> Schema:
    """An object with these keys and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def whole(minimum: int, maximum: int | None = None) -> Schema:
    """A whole number in a range."""
    return {"type": "integer", "minimum": minimum, **({} if maximum is None else {"maximum": maximum})}


def one_of(*values: str) -> Schema:
    """One of some words."""
    return {"enum": list(values)}


def service(name: str, **more: Schema) -> Schema:
    """The values of one service; its `config` takes the keys of its settings."""
    return closed(
        replicas=whole(0, 100),
        resources=closed(requests=QUANTITIES, limits=QUANTITIES),
        nodeSelector=TEXTS,
        tolerations=OBJECTS,
        serviceAccount=closed(annotations=TEXTS),
        config=closed(**{key: {"type": ["string", "number", "boolean", "object"]} for key in config_keys(name)}),
        **more,
    )


def config_keys(name: str) -> list[str]:
    """Settings of a service that a values file may set."""
    settings = importlib.import_module(f"gandt_{name}.settings").Settings
    return sorted(set(settings.known_keys()) - SET_BY_CHART)


def outside() -> Schema:
    """A rule for traffic that leaves the release."""
    return closed(ports={"type": "array", "items": whole(1, 65535), "minItems": 1}, to=OBJECTS)


def schema() -> Schema:
    """The whole schema."""
    scaling = closed(
        mode=one_of("none", "hpa", "keda"),
        minReplicas=whole(0, 100),
        maxReplicas=whole(1, 100),
        queueSeconds=SECONDS,
        metric=TEXT,
        scaleDownSeconds=whole(0, 3600),
        prometheusAddress=TEXT,
    )
    gpu = closed(enabled=FLAG, resourceName=TEXT, count=whole(1, 16), runtimeClassName=TEXT)
    image = closed(repository={"type": "string", "minLength": 1}, digest=DIGEST)
    values = closed(
        mode=one_of("standalone", "distributed"),
        nameOverride=TEXT,
        fullnameOverride=TEXT,
        image=closed(
            registry={"type": "string", "pattern": "[^/]$|^$"},
            tag=TEXT,
            pullPolicy=one_of("Always", "IfNotPresent", "Never"),
            pullSecrets={"type": "array", "items": SECRET},
        ),
        images=closed(cpu=image, gpu=image, labeling=image, controller=image),
        auth=closed(existingSecret=SECRET),
        s3=closed(bucket=TEXT, region=TEXT, endpoint=TEXT, existingSecret=SECRET),
        database=closed(existingSecret=SECRET),
        milvus=closed(uri={"type": "string", "pattern": "^(https?://.+)?$"}, existingSecret=SECRET),
        backend=closed(
            kind=one_of("labeling", "ground-truth"),
            region=TEXT,
            roleArn=TEXT,
            workteamArn=TEXT,
            preLambdaArn=TEXT,
            postLambdaArn=TEXT,
        ),
        tls=closed(
            enabled=FLAG,
            certManager=closed(issuer=TEXT, kind=one_of("Issuer", "ClusterIssuer"), group=TEXT),
            existingSecret=SECRET,
        ),
        persistence=closed(enabled=FLAG, size=TEXT, storageClassName=TEXT),
        serve=closed(
            preStopSeconds=whole(1, 120),
            drainSeconds=whole(1, 3600),
            maxConnectionAgeSeconds=SECONDS,
            reflection=FLAG,
            logLevel=one_of("debug", "info", "warning", "error"),
        ),
        podSecurity=closed(runAsUser=whole(1), runAsGroup=whole(1), fsGroup=whole(1)),
        nodeSelector=TEXTS,
        tolerations=OBJECTS,
        priorityClassName=TEXT,
        podLabels=TEXTS,
        podAnnotations=TEXTS,
        standalone=closed(
            resources=closed(requests=QUANTITIES, limits=QUANTITIES), serviceAccount=closed(annotations=TEXTS)
        ),
        **{
            name: service(name, **({"gpu": gpu, "autoscaling": scaling} if name == "embedding" else {}))
            for name in SERVICES
        },
        ingress=closed(enabled=FLAG, className=TEXT, host=TEXT, annotations=TEXTS, tlsSecret=SECRET),
        gateway=closed(enabled=FLAG, host=TEXT, parentRefs=OBJECTS),
        networkPolicy=closed(
            enabled=FLAG,
            clients=OBJECTS,
            monitoring=OBJECTS,
            ingressController=OBJECTS,
            objects=outside(),
            milvus=outside(),
            database=outside(),
            aws=outside(),
            dns=OBJECTS,
        ),
        monitoring=closed(podMonitor=FLAG, rules=FLAG, dashboards=FLAG, labels=TEXTS, interval=TEXT, runbooks=TEXT),
        test=closed(seconds=whole(10, 3600)),
        extraObjects=OBJECTS,
    )
    values["properties"]["global"] = {"type": "object"}  # Helm adds it to every chart's values
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the gandt chart", **values}


def text() -> str:
    """The file."""
    return json.dumps(schema(), indent=1) + "\n"
