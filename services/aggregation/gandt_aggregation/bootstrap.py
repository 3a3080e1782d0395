# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the aggregation service together from its settings; the only file of it that names adapters."""

from __future__ import annotations

from gandt.adapters.object_stores import open_objects
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.domain.aggregation.answer_table import Limits
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.wire.aggregation import SERVICE_NAME, add_servicer
from gandt_aggregation.service import METRICS, AggregationService
from gandt_aggregation.servicer import AggregationServicer
from gandt_aggregation.settings import Settings
from gandt_aggregation.stored_answers import StoredAnswers


def bootstrap(settings: Settings, peers: Peers) -> Application:  # noqa: ARG001  every bootstrap gets peers
    """The service, ready to be served.

    Args:
        settings: where objects are, and limits.
        peers: not used; aggregation calls no other service.
    """
    meter = PrometheusMeter(METRICS)
    limits = Limits(settings.max_answers, settings.max_images, settings.max_workers, settings.max_classes)
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)
    service = AggregationService(StoredAnswers(objects, settings.max_stored_bytes), meter, limits)
    return Application(
        name="aggregation",
        grpc_service=SERVICE_NAME,
        register=lambda server, pool: add_servicer(AggregationServicer(service, pool), server),
        registry=meter.registry,
    )
