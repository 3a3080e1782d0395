# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the job controller together from its settings; the only file of it that names adapters."""

from __future__ import annotations

import importlib.resources
import os
import secrets
import socket
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry

from gandt.adapters.local_embedding_jobs import LocalEmbeddingJobs
from gandt.adapters.object_stores import open_objects
from gandt.adapters.pillow_images import PillowImages
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.sagemaker import SageMakerJobs, sagemaker_client
from gandt.adapters.sql_jobs import SqlJobs
from gandt.adapters.sqs_job_events import SqsJobEvents, sqs_client
from gandt.adapters.system_clock import SystemClock
from gandt.client.embedding import EmbeddingClient
from gandt.domain.errors import WrongState
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.wire import jobcontroller as wire
from gandt_jobcontroller.remote_peers import RemoteAggregator, RemoteEmbedder, RemoteSelector, RemoteVectors
from gandt_jobcontroller.service import peers as protocols
from gandt_jobcontroller.service.controller import JobController
from gandt_jobcontroller.service.embedding import publish
from gandt_jobcontroller.service.parts import METRICS, Parts
from gandt_jobcontroller.service.places import Places
from gandt_jobcontroller.servicer import JobControllerServicer
from gandt_jobcontroller.settings import Settings


def bootstrap(settings: Settings, peers: Peers | None = None) -> Application:
    """The controller, ready to be served; its loop begins when it is warmed up.

    Args:
        peers: where the other services are; by default as configured.

    Raises:
        BackendUnavailable: the database does not answer, is read-only or full.
    """
    neighbors = peers or Peers.configured(settings.config_file)
    meter = PrometheusMeter(METRICS)
    store = SqlJobs(settings.database_url or f"sqlite:///{settings.data_dir / 'controller.db'}")
    embedding = EmbeddingClient(neighbors.connect("embedding"))
    vectors = RemoteVectors(neighbors.connect("vectorsearch"))
    parts = Parts(
        store=store,
        objects=open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url),
        backend=SageMakerJobs(_backend(settings, neighbors)),
        peers=protocols.Peers(
            selector=RemoteSelector(neighbors.connect("selection")),
            aggregator=RemoteAggregator(neighbors.connect("aggregation"), settings.target_confidence),
            vectors=vectors,
            embedder=RemoteEmbedder(embedding),
        ),
        inspector=PillowImages(),
        embedding_jobs=LocalEmbeddingJobs(
            store, embedding, vectors, lambda job: publish(store, vectors, settings.dataset, job)
        ),
        places=_places(settings),
        clock=SystemClock(),
        meter=meter,
        template=lambda: _template(settings),
        work_url=lambda: _work_url(settings, neighbors),
        new_id=lambda prefix: f"{prefix}-{secrets.token_hex(6)}",
    )
    holder = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
    controller = JobController(parts, holder, settings.poll_seconds, settings.dataset, _events(settings))

    def close() -> None:
        controller.close()
        if peers is None:
            neighbors.close()

    return assemble(controller, close, meter.registry)


def assemble(
    controller: JobController, close: Callable[[], None], registry: CollectorRegistry | None = None
) -> Application:
    """The application around any controller."""
    return Application(
        name="jobcontroller",
        grpc_service=wire.SERVICE_NAME,
        register=lambda server, pool: wire.add_servicer(JobControllerServicer(controller, pool), server),
        warm_up=controller.start,
        close=close,
        registry=registry or CollectorRegistry(),
    )


def _places(settings: Settings) -> Places:
    return Places(
        bucket=settings.bucket,
        job_prefix=settings.job_prefix,
        role_arn=settings.role_arn,
        workteam_arn=settings.workteam_arn,
        pre_lambda_arn=settings.pre_lambda_arn,
        post_lambda_arn=settings.post_lambda_arn,
    )


def _backend(settings: Settings, peers: Peers) -> Callable[[], Any]:
    """Gives the client for the backend's present address; a client is built once for each."""

    @lru_cache(maxsize=4)
    def client(endpoint: str) -> Any:
        dummy = "gandt" if endpoint and not settings.access_key_id else ""
        secret = settings.secret_access_key.get_secret_value()
        return sagemaker_client(settings.region, endpoint, settings.access_key_id or dummy, secret or dummy)

    if settings.backend == "labeling":
        return lambda: client(peers.endpoint("labeling"))
    return lambda: client("" if settings.backend == "ground-truth" else settings.backend)


def _events(settings: Settings) -> SqsJobEvents | None:
    if not settings.events_queue_url:
        return None
    return SqsJobEvents(sqs_client(settings.region), settings.events_queue_url, settings.job_prefix)


def _work_url(settings: Settings, peers: Peers) -> str:
    if settings.backend != "labeling":
        return ""
    url = peers.running("labeling")
    return f"{url.rstrip('/')}/work" if url else ""


def _template(settings: Settings) -> bytes:
    """The page for workers: a file of the operator's, or the data of the installed labeling service."""
    try:
        if settings.template_file is not None:
            return settings.template_file.read_bytes()
        return (importlib.resources.files("gandt_labeling") / "templates" / "grid.liquid.html").read_bytes()
    except (OSError, ModuleNotFoundError) as error:
        raise WrongState(
            f"the page template cannot be read: {error}",
            kind="template",
            id=str(settings.template_file or "grid.liquid.html"),
            reason="NO_TEMPLATE",
            fix="set template_file to a Liquid page",
        ) from error
