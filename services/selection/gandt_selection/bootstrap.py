# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the selection service; the only file of it that names adapters."""

from __future__ import annotations

import grpc.aio

from gandt.adapters.object_stores import open_objects
from gandt.adapters.parquet_vectors import ParquetVectors
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.remote_vectors import RemoteVectors
from gandt.adapters.spooled_rows import SpooledRows
from gandt.adapters.system_clock import SystemClock
from gandt.client.vectorsearch import VectorSearchClient
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.runtime.work_pool import WorkPool
from gandt.wire import selection as wire
from gandt_selection.intake import Sources
from gandt_selection.service import METRICS, Selection
from gandt_selection.servicer import SelectionServicer
from gandt_selection.settings import Settings


def bootstrap(settings: Settings, peers: Peers | None = None) -> Application:
    """The service; it reads collections from the vector search service among its peers."""
    neighbors = peers or Peers.configured(settings.config_file)
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)
    sources = Sources(
        collection=lambda name: RemoteVectors(VectorSearchClient(neighbors.connect("vectorsearch")), name),
        stored=lambda uri: ParquetVectors(objects, uri),
        new_rows=lambda: SpooledRows(settings.max_resident_bytes),
    )
    return assemble(sources, settings.remembered_requests, close=None if peers else neighbors)


def assemble(sources: Sources, remembered: int = 64, close: Peers | None = None) -> Application:
    """The service over any sources.

    Args:
        close: peers that end with the service.
    """
    meter = PrometheusMeter(METRICS)
    service = Selection(sources, meter, SystemClock(), remembered)

    def register(server: grpc.aio.Server, pool: WorkPool) -> None:
        wire.add_servicer(SelectionServicer(service, pool), server)

    return Application(
        name="selection",
        grpc_service=wire.SERVICE,
        register=register,
        close=close.close if close else lambda: None,
        registry=meter.registry,
    )
