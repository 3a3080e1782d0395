# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the embedding service from its settings; the only file here that names an adapter."""

from __future__ import annotations

import importlib.util
import logging
import os
from dataclasses import replace
from pathlib import Path

from gandt.adapters.heap import keep_freed_memory
from gandt.adapters.image_decode import ImageDecoder
from gandt.adapters.local_files import LocalFiles
from gandt.adapters.model_spec import ModelSpec
from gandt.adapters.networks import export_network, is_exported, load_network
from gandt.adapters.object_stores import open_objects, open_s3
from gandt.adapters.processors import processors
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.sqlite_vectors import SqliteVectors
from gandt.adapters.system_clock import SystemClock
from gandt.domain.embedding import ModelInfo, Views
from gandt.domain.errors import InvalidInput, WrongState
from gandt.ports.embedding_model import EmbeddingModel
from gandt.ports.kept_vectors import KeptVectors
from gandt.ports.object_store import ObjectStore
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.wire import embedding as wire
from gandt_embedding.admission import Limits
from gandt_embedding.bulk import BulkEmbedder
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import METRICS, Pipeline
from gandt_embedding.service import EmbeddingService
from gandt_embedding.servicer import EmbeddingServicer
from gandt_embedding.settings import Settings

log = logging.getLogger(__name__)
HOG = "hog"
_STORE_THREADS = 16  # they wait for the store more than for a processor


def bootstrap(settings: Settings, peers: Peers | None = None) -> Application:
    """The service, with its model to be loaded by the warm-up.

    Args:
        peers: not needed; embedding calls no other service.
    Raises:
        InvalidInput: weights without a model that could use them.
    """
    del peers
    _check_named(settings)
    if settings.device != "cuda":
        keep_freed_memory()  # before there are threads
    meter = PrometheusMeter(METRICS)
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)

    def load() -> Pipeline:
        model = load_model(settings, objects, texts=True)
        cache = VectorCache(settings.cache_bytes, _kept(settings, model.info))
        return Pipeline(model, objects, cache, _limits(settings), meter, SystemClock())

    service = EmbeddingService(load, settings.stream_window)
    return Application(
        name="embedding",
        grpc_service=wire.SERVICE,
        register=lambda server, pool: wire.add_servicer(EmbeddingServicer(service, pool), server),
        warm_up=service.warm_up,
        close=service.close,
        registry=meter.registry,
    )


def open_bulk(settings: Settings, from_store: bool = False) -> BulkEmbedder:
    """The model for one caller in this process, without a service.

    Args:
        from_store: whether the images lie in an object store, which is waited for.
    Raises:
        InvalidInput, NotFound, CorruptData, BackendUnavailable: the model cannot be loaded, and why.
    """
    _check_named(settings)
    if settings.device != "cuda":
        keep_freed_memory()
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)
    threads = settings.decode_threads or processors()
    return BulkEmbedder(
        load_model(settings, objects), max(threads, _STORE_THREADS) if from_store else threads, settings.max_batch
    )


def open_texts(settings: Settings) -> EmbeddingModel:
    """The model with its text tower, if it has one, for one caller in this process.

    Raises:
        InvalidInput, NotFound, CorruptData, BackendUnavailable: the model cannot be loaded, and why.
    """
    _check_named(settings)
    return load_model(
        settings, open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url), texts=True
    )


def open_images(settings: Settings, uri: str) -> ObjectStore:
    """Where an `s3://` URI lies: in the service's own store if it has that bucket, else in S3."""
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)
    if isinstance(objects, LocalFiles) and not objects.has_bucket(uri.removeprefix("s3://").partition("/")[0]):
        return open_s3(settings.s3_endpoint_url)
    return objects


def load_model(settings: Settings, objects: ObjectStore, texts: bool = False) -> EmbeddingModel:
    """The model that the settings name.

    Args:
        texts: whether its text tower is loaded as well, if it has one.
    Raises:
        InvalidInput, NotFound, CorruptData, BackendUnavailable: it cannot be loaded, and why.
    """
    limits = (settings.max_image_bytes, settings.max_pixels)
    if settings.model == HOG and not settings.weights:
        _need_torch()
        from gandt.adapters.torch_hog import TorchHog

        hog = TorchHog(ImageDecoder(max_image_bytes=limits[0], max_pixels=limits[1]), settings.torch_threads or 1)
        log.info("the built-in hog embedder is used: it has no weights and sees outlines only")
        return hog
    model = load_network(replace(_spec(settings), texts=texts), _weight_store(settings, objects), limits)
    info = model.info
    log.info("model loaded", extra={"model_id": info.model_id, "engine": info.engine, "device": info.device})
    return model


def export_model(settings: Settings, path: Path) -> str:
    """Writes the model that the settings name for OpenVINO, to be used without torch; returns its architecture.

    Raises:
        InvalidInput, WrongState, NotFound, CorruptData, BackendUnavailable, GandtError: it cannot be, and why.
    """
    if settings.model == HOG:
        raise InvalidInput(
            "hog is no network, it cannot be exported",
            field="model",
            reason="MODEL_NOT_NAMED",
            fix="name one with --model",
        )
    _need_torch()
    objects = open_objects(settings.objects, settings.data_dir / "objects", settings.s3_endpoint_url)
    return export_network(_spec(settings), _weight_store(settings, objects), path).architecture


def _spec(settings: Settings) -> ModelSpec:
    unnamed = settings.model == HOG  # the default; an exported model says itself what it is
    return ModelSpec(
        "" if unnamed else settings.model,
        settings.weights,
        settings.weights_config,
        settings.weights_sha256,
        settings.device,
        settings.engine,
        settings.torch_threads,
        settings.precision,
        Views(settings.flip, _scales(settings.scales)),
        settings.project_to,
        settings.max_batch,
        settings.engine_cache_dir
        or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "gandt/engines",
        jpegs=settings.jpeg_decoder,
    )


def _kept(settings: Settings, info: ModelInfo) -> KeptVectors | None:
    if settings.cache_dir is None:
        return None
    return SqliteVectors(settings.cache_dir / f"{info.model_id}.sqlite", info.dim, settings.cache_dir_bytes)


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InvalidInput(
            f"scales {text!r} are no numbers", field="scales", reason="BAD_SCALES", fix="write them as in 1,0.7"
        ) from error


def _need_torch() -> None:
    if importlib.util.find_spec("torch") is None:
        raise WrongState(
            "this needs torch, which is not installed",
            kind="engine",
            id="torch",
            reason="ENGINE_NOT_INSTALLED",
            fix="pip install 'gandt[embedding]', or give a model that `gandt model export` wrote elsewhere",
        )


def _limits(settings: Settings) -> Limits:
    return Limits(
        max_batch=settings.max_batch,
        decode_threads=settings.decode_threads or max(1, processors() - 1),
        queue_items=settings.queue_items,
        queue_bytes=settings.queue_bytes,
        max_delay_seconds=settings.max_delay_seconds,
    )


def _check_named(settings: Settings) -> None:
    if settings.weights and settings.model == HOG and not is_exported(settings.weights):
        raise InvalidInput(
            f"weights {settings.weights} are given, and the model is hog, which has none",
            field="model",
            reason="MODEL_NOT_NAMED",
            fix="name the model that they are for, as in --model mobilenet_v2",
        )


def _weight_store(settings: Settings, objects: ObjectStore) -> ObjectStore:
    """Weights may lie in S3 also where the images do not."""
    if not settings.weights.startswith("s3://") or settings.objects == "s3" or objects.head(settings.weights):
        return objects
    return open_s3(settings.s3_endpoint_url)
