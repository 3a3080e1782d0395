# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the vector search service; the only file of it that names adapters."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc.aio

from gandt.adapters.milvus_index import IndexSpec
from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.milvus_server import Connection, MilvusServer, Partitions
from gandt.adapters.milvus_session import options_of
from gandt.adapters.neighbor_graph import neighbor_pairs
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
    """The service on a Milvus server, or over Milvus Lite in `<data_dir>/vectors`."""
    if settings.milvus_uri:
        return assemble(_server(settings), settings.duplicate_graph_above_rows)
    journal = MilvusLiteJournal(settings.data_dir / "vectors", settings.flush_rows, durability=settings.durability)
    store = ResidentVectors(journal, settings.max_resident_bytes, settings.approximate_above_rows)
    return assemble(store, settings.duplicate_graph_above_rows)


def _server(settings: Settings) -> MilvusServer:
    options = options_of(
        settings.milvus_uri,
        settings.milvus_ca_file,
        settings.milvus_client_cert_file,
        settings.milvus_client_key_file,
        settings.milvus_server_name,
        settings.milvus_database,
    )
    connection = Connection(
        settings.milvus_uri,
        settings.milvus_token.get_secret_value() if settings.milvus_token else "",
        options,
        settings.milvus_timeout_seconds,
        settings.milvus_consistency,
    )
    index = IndexSpec(settings.milvus_index, settings.milvus_index_params, settings.milvus_search_params)
    partitions = Partitions(settings.milvus_partition_field, settings.milvus_partitions)
    return MilvusServer(connection, index, partitions, settings.max_resident_bytes)


def assemble(store: VectorStore, graph_above_rows: int = 0) -> Application:
    """The service over any store.

    Args:
        graph_above_rows: more rows than these are searched for near-duplicates by a neighbor graph; 0 for never.
    """
    meter = PrometheusMeter(METRICS)
    service = VectorSearch(store, meter, neighbor_pairs if graph_above_rows else None, graph_above_rows)
    canaries = ThreadPoolExecutor(1, "recall-canary")
    searches = Searches(store, service, meter, SystemClock(), canaries)

    def register(server: grpc.aio.Server, pool: WorkPool) -> None:
        wire.add_servicer(VectorSearchServicer(service, searches, pool), server)

    def close() -> None:
        canaries.shutdown(cancel_futures=True)
        service.close()

    return Application(
        name="vectorsearch",
        grpc_service=wire.SERVICE,
        register=register,
        warm_up=service.warm_up,
        close=close,
        registry=meter.registry,
    )
