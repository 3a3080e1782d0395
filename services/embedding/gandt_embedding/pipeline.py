# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of an image through the service: admit, fetch, decode, wait for the device, compute, deliver.

    caller -> admission (items, bytes) -> fetch threads (s3:// alone) -> decode threads -> device thread -> future

What is under way is bounded where it enters, so the stages behind need no bounds of their own. The device never waits
for a batch to fill: when it is free it takes what is ready, at most `max_batch`. An item whose caller has left or
whose time is up is dropped before decoding and again before the device. A bad image fails alone.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.embedding import ImageInput
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Overloaded
from gandt.domain.vectors import bad_rows
from gandt.ports.clock import Clock, Deadline
from gandt.ports.embedding_model import EmbeddingModel
from gandt.ports.meter import Meter, Metric
from gandt.ports.object_store import ObjectStore
from gandt_embedding.cache import VectorCache

log = logging.getLogger(__name__)

_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
METRICS = (
    Metric("gandt_embedding_queue_items", "gauge", "Images admitted and not yet finished."),
    Metric("gandt_embedding_queue_seconds", "histogram", "Seconds from admission to the device."),
    Metric("gandt_embedding_batch_size", "histogram", "Images in one run of the device.", buckets=_SIZES),
    Metric("gandt_embedding_stage_seconds", "histogram", "Seconds in a stage: fetch, decode, device.", ("stage",)),
    Metric("gandt_embedding_images_total", "counter", "Images by result: ok, error, dropped.", ("result",)),
    Metric("gandt_embedding_cache_hits_total", "counter", "Images answered from the cache."),
)
_UNREAD_BYTES = 2**20  # what an object counts for until its size is known
_FETCH_THREADS = 16  # they wait for the store, not for a processor
_STREAM_SHARE = 0.75  # of the queue; the rest is kept for unary calls, whose callers wait
_RECHECK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the pipeline.

    Attributes:
        max_batch: most images in one run of the device.
        decode_threads: images decoded at once.
        queue_items, queue_bytes: most images, and most encoded bytes, under way.
    """

    max_batch: int = 8
    decode_threads: int = 1
    queue_items: int = 256
    queue_bytes: int = 256 * 2**20


@dataclass(frozen=True, slots=True)
class Outcome:
    """An image's vector, f32[D] and read-only, and whether it was known already."""

    vector: NDArray[np.float32]
    cached: bool = False


@dataclass(slots=True, eq=False)
class _Item:
    image: ImageInput
    deadline: Deadline
    size: int
    admitted_at: float
    future: Future[Outcome]
    key: bytes = b""
    prepared: NDArray[np.uint8] | None = field(default=None)


class Pipeline:
    """Owns the threads of one model; close it to end them.

    Args:
        model: whose `embed` is called from one thread alone.
        objects: where `s3://` images are read.
        cache: finished vectors by content.
    """

    def __init__(
        self,
        model: EmbeddingModel,
        objects: ObjectStore,
        cache: VectorCache,
        limits: Limits,
        meter: Meter,
        clock: Clock,
    ) -> None:
        self._model, self._objects, self._cache = model, objects, cache
        self._limits, self._meter, self._clock = limits, meter, clock
        self._fetchers = ThreadPoolExecutor(_FETCH_THREADS, "embedding-fetch")
        self._decoders = ThreadPoolExecutor(limits.decode_threads, "embedding-decode")
        self._device = ThreadPoolExecutor(1, "embedding-device")
        self._ready: deque[_Item] = deque()
        self._room = threading.Condition()
        self._items = self._bytes = 0

    @property
    def model(self) -> EmbeddingModel:
        """The model that it runs."""
        return self._model

    def submit(self, images: list[ImageInput], deadline: Deadline) -> list[Future[Outcome]]:
        """Takes all of some images, or refuses at once.

        Returns:
            A future for each; its exception is the error of that image.
        Raises:
            Overloaded: the queue has no room for them.
        """
        sizes = [self._size(image) for image in images]
        with self._room:
            if not self._fits(len(images), sum(sizes), 1.0):
                raise Overloaded(
                    f"{self._items} images are under way, there is no room for {len(images)} more",
                    retry_after_seconds=1.0,
                    reason="QUEUE_FULL",
                    fix="call again in a moment, or use EmbedStream, which waits",
                )
            self._admit(len(images), sum(sizes))
        return [self._start(image, size, deadline) for image, size in zip(images, sizes, strict=True)]

    def submit_when_free(self, image: ImageInput, deadline: Deadline) -> Future[Outcome]:
        """Waits for room, then takes one image.

        Raises:
            DeadlineExceeded: the caller left or its time is up.
        """
        size = self._size(image)
        with self._room:
            while not self._fits(1, size, _STREAM_SHARE):
                deadline.check()
                self._room.wait(_RECHECK_SECONDS)
            self._admit(1, size)
        return self._start(image, size, deadline)

    def close(self) -> None:
        """Ends the threads; what has not begun fails with BackendUnavailable."""
        for pool in (self._fetchers, self._decoders, self._device):
            pool.shutdown(wait=True, cancel_futures=True)
        while self._ready:
            self._fail(self._ready.popleft(), _closing(None))

    # ---- admission ----

    def _size(self, image: ImageInput) -> int:
        return _UNREAD_BYTES if image.uri else image.size_bytes

    def _fits(self, items: int, size: int, share: float) -> bool:
        if self._items == 0:
            return True  # one that is larger than the queue must still get through
        limits = self._limits
        return self._items + items <= limits.queue_items * share and self._bytes + size <= limits.queue_bytes * share

    def _admit(self, items: int, size: int) -> None:
        self._items += items
        self._bytes += size
        self._meter.set_level("gandt_embedding_queue_items", self._items)

    def _start(self, image: ImageInput, size: int, deadline: Deadline) -> Future[Outcome]:
        item = _Item(image, deadline, size, self._clock.monotonic(), Future())
        item.future.set_running_or_notify_cancel()
        if image.uri:
            self._hand(self._fetchers, self._fetch, item)
        else:
            self._hand(self._decoders, self._decode, item, image.data)
        return item.future

    def _hand(self, pool: ThreadPoolExecutor, stage: Callable[..., None], item: _Item, *args: Any) -> None:
        try:
            pool.submit(stage, item, *args).add_done_callback(lambda future: self._after(item, future))
        except RuntimeError as error:
            self._fail(item, _closing(error))

    def _after(self, item: _Item, stage: Future[None]) -> None:
        """Nobody may wait for an item forever: what a stage raised ends it."""
        if stage.cancelled():
            self._fail(item, _closing(None))
            return
        error = stage.exception()
        if isinstance(error, GandtError):
            self._fail(item, error)
        elif error is not None:
            log.error("an image failed unexpectedly", exc_info=error)
            self._fail(item, GandtError("the image failed on an unexpected error; the service's log has the details"))

    # ---- stages ----

    def _fetch(self, item: _Item) -> None:
        item.deadline.check()
        started = self._clock.monotonic()
        info, limit = self._objects.head(item.image.uri), self._model.info.max_image_bytes
        if info is not None and info.size > limit:
            raise InvalidInput(
                f"{item.image.uri} has {info.size:,} bytes, at most {limit:,} are taken",
                field="image",
                reason="IMAGE_TOO_LARGE",
                fix="store it smaller, or raise max_image_bytes",
            )
        data = self._objects.get(item.image.uri)
        with self._room:
            self._bytes += len(data) - item.size
            item.size = len(data)
        self._observe("fetch", started)
        self._hand(self._decoders, self._decode, item, data)

    def _decode(self, item: _Item, data: bytes) -> None:
        item.deadline.check()
        started = self._clock.monotonic()
        pixels = item.image.pixels
        item.key = hashlib.sha256(data if pixels is None else repr(pixels.shape).encode() + pixels.tobytes()).digest()
        known = self._cache.get(item.key)
        if known is not None:
            self._meter.increment("gandt_embedding_cache_hits_total")
            self._finish(item, Outcome(known, cached=True))
            return
        item.prepared = self._model.prepare(data) if pixels is None else self._model.prepare_pixels(pixels)
        self._observe("decode", started)
        self._ready.append(item)
        try:
            self._device.submit(self._run).add_done_callback(_log_error)
        except RuntimeError as error:
            raise _closing(error) from error

    def _run(self) -> None:
        """Runs what is ready. There is one call for each item, so most of them find their item done already."""
        batch: list[_Item] = []
        while self._ready and len(batch) < self._limits.max_batch:
            item = self._ready.popleft()
            try:
                item.deadline.check()
            except GandtError as error:
                self._fail(item, error)
            else:
                batch.append(item)
        if batch:
            self._compute(batch)

    def _compute(self, batch: list[_Item]) -> None:
        started = self._clock.monotonic()
        self._meter.observe("gandt_embedding_batch_size", len(batch))
        for item in batch:
            self._meter.observe("gandt_embedding_queue_seconds", started - item.admitted_at)
        try:
            vectors = self._model.embed([item.prepared for item in batch if item.prepared is not None])  # [N, D]
            self._observe("device", started)
            for item, row, bad in zip(batch, vectors, bad_rows(vectors), strict=True):
                if bad:
                    self._fail(item, InvalidInput("the model gives no usable vector for it", reason="VECTOR_UNUSABLE"))
                else:
                    vector = row.copy()  # a view would keep the whole batch alive in the cache
                    vector.flags.writeable = False
                    self._cache.put(item.key, vector)
                    self._finish(item, Outcome(vector))
        finally:
            for item in batch:
                if not item.future.done():
                    self._fail(item, GandtError("the model failed; the service's log has the details"))

    # ---- the end ----

    def _finish(self, item: _Item, outcome: Outcome) -> None:
        self._leave(item, "ok")
        item.future.set_result(outcome)

    def _fail(self, item: _Item, error: GandtError) -> None:
        if item.future.done():
            return
        self._leave(item, "dropped" if isinstance(error, DeadlineExceeded) else "error")
        item.future.set_exception(error)

    def _leave(self, item: _Item, result: str) -> None:
        self._meter.increment("gandt_embedding_images_total", result=result)
        with self._room:
            self._items -= 1
            self._bytes -= item.size
            self._meter.set_level("gandt_embedding_queue_items", self._items)
            self._room.notify_all()

    def _observe(self, stage: str, started: float) -> None:
        self._meter.observe("gandt_embedding_stage_seconds", self._clock.monotonic() - started, stage=stage)


def _closing(error: BaseException | None) -> BackendUnavailable:
    closed = BackendUnavailable("the embedding service is shutting down", backend="embedding", reason="SHUTTING_DOWN")
    closed.__cause__ = error
    return closed


def _log_error(future: Future[None]) -> None:
    if not future.cancelled() and future.exception() is not None:
        log.error("the model failed", exc_info=future.exception())
