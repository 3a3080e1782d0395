# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the vector search service; the only file of it that names adapters."""

from __future__ import annotations

import grpc.aio

from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.adapters.system_clock import SystemClock
from gandt.ports.vector_store import VectorStore
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.runtime.work_pool import WorkPool
from gandt.wire import vectorsearch as wire
from gandt_vectorsearch.searches import Searches
from gandt_vectorsearch.service import METRICS, VectorSearch
from gandt_vectorsearch.servicer import VectorSearchServicer
from gandt_vectorsearch.settings import Settings


def bootstrap(settings: Settings, peers: Peers | None = None) -> Application:  # noqa: ARG001 (it calls nobody)
    """The service over Milvus Lite in `<data_dir>/vectors`."""
    journal = MilvusLiteJournal(settings.data_dir / "vectors", settings.flush_rows)
    return assemble(ResidentVectors(journal, settings.max_resident_bytes))


def assemble(store: VectorStore) -> Application:
    """The service over any store."""
    meter = PrometheusMeter(METRICS)
    service = VectorSearch(store, meter)
    searches = Searches(store, service, meter, SystemClock())

    def register(server: grpc.aio.Server, pool: WorkPool) -> None:
        wire.add_servicer(VectorSearchServicer(service, searches, pool), server)

    return Application(
        name="vectorsearch",
        grpc_service=wire.SERVICE,
        register=register,
        warm_up=service.warm_up,
        close=service.close,
        registry=meter.registry,
    )
