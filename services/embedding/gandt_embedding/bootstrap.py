# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the embedding service from its settings; the only file here that names an adapter."""

from __future__ import annotations

import logging

from gandt.adapters.image_decode import ImageDecoder
from gandt.adapters.object_stores import open_objects, open_s3
from gandt.adapters.processors import processors
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.system_clock import SystemClock
from gandt.domain.errors import InvalidInput
from gandt.ports.embedding_model import EmbeddingModel
from gandt.ports.object_store import ObjectStore
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.wire import embedding as wire
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import METRICS, Pipeline
from gandt_embedding.service import EmbeddingService
from gandt_embedding.servicer import EmbeddingServicer
from gandt_embedding.settings import Settings

log = logging.getLogger(__name__)
HOG = "hog"


def bootstrap(settings: Settings, peers: Peers | None = None) -> Application:
    """The service, with its model to be loaded by the warm-up.

    Args:
        peers: not needed; embedding calls no other service.
    Raises:
        InvalidInput: weights without a model that could use them.
    """
    del peers
    if settings.weights and settings.model == HOG:
        raise InvalidInput(
            f"weights {settings.weights} are given, and the model is hog, which has none",
            field="model",
            reason="MODEL_NOT_NAMED",
            fix="name the model that they are for, as in --model mobilenet_v2",
        )
    meter = PrometheusMeter(METRICS)
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)

    def load() -> Pipeline:
        model = load_model(settings, objects)
        return Pipeline(model, objects, VectorCache(settings.cache_bytes), _limits(settings), meter, SystemClock())

    service = EmbeddingService(load, settings.stream_window)
    return Application(
        name="embedding",
        grpc_service=wire.SERVICE,
        register=lambda server, pool: wire.add_servicer(EmbeddingServicer(service, pool), server),
        warm_up=service.warm_up,
        close=service.close,
        registry=meter.registry,
    )


def load_model(settings: Settings, objects: ObjectStore) -> EmbeddingModel:
    """The model that the settings name.

    Raises:
        InvalidInput, NotFound, CorruptData, BackendUnavailable: it cannot be loaded, and why.
    """
    limits = (settings.max_image_bytes, settings.max_pixels)
    if settings.model == HOG:
        from gandt.adapters.torch_hog import TorchHog

        hog = TorchHog(ImageDecoder(max_image_bytes=limits[0], max_pixels=limits[1]), settings.torch_threads or 1)
        log.info("the built-in hog embedder is used: it has no weights and sees outlines only")
        return hog
    from gandt.adapters.torch_model import ModelSpec, load_torch_model

    spec = ModelSpec(
        settings.model,
        settings.weights,
        settings.weights_config,
        settings.weights_sha256,
        settings.device,
        settings.engine,
        settings.torch_threads,
    )
    model = load_torch_model(spec, _weight_store(settings, objects), limits)
    log.info("model loaded", extra={"model_id": model.info.model_id, "device": model.info.device})
    return model


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_batch=settings.max_batch,
        decode_threads=settings.decode_threads or max(1, processors() - 1),
        queue_items=settings.queue_items,
        queue_bytes=settings.queue_bytes,
        max_delay_seconds=settings.max_delay_seconds,
    )


def _weight_store(settings: Settings, objects: ObjectStore) -> ObjectStore:
    """Weights may lie in S3 also where the images do not."""
    if not settings.weights.startswith("s3://") or settings.objects == "s3" or objects.head(settings.weights):
        return objects
    return open_s3(settings.s3_endpoint_url)
