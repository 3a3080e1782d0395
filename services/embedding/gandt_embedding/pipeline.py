# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of an image through the service: admit, fetch, decode, wait for the device, compute, deliver.

    caller -> admission (items, bytes) -> fetch threads (s3:// alone) -> decode threads -> device thread -> sink

What is under way is bounded where it enters, so the stages behind need no bounds of their own. When the device is free
it takes what is ready, at most `max_batch`, and never waits longer than `max_delay_seconds` for more. An item whose
caller has left or whose time is up is dropped before decoding and again before the device. A bad image fails alone.
Results of a batch reach each caller together, in one call. A text goes the way of an image; the device runs it apart.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.embedding import EmbedResult, ImageInput
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput
from gandt.domain.vectors import bad_rows
from gandt.ports.clock import Clock, Deadline
from gandt.ports.embedding_model import EmbeddingModel
from gandt.ports.meter import Meter, Metric
from gandt.ports.object_store import ObjectStore
from gandt_embedding.admission import Admission, Limits
from gandt_embedding.cache import Flights, VectorCache
from gandt_embedding.stage import Item, Sink, Stage

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

Outcome = NDArray[np.float32] | GandtError
"""An image's vector, f32[D] and read-only, or what is wrong with it."""


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
        self._admission, self._flights = Admission(limits), Flights()
        self._batch_ended_at = 0.0
        fill = self._fill if limits.max_delay_seconds > 0 else None
        self._fetching = Stage("embedding-fetch", _FETCH_THREADS, self._fetch, self._failed)
        self._decoding = Stage("embedding-decode", limits.decode_threads, self._decode, self._failed)
        self._device = Stage("embedding-device", 1, self._compute, self._failed, limits.max_batch, fill)

    @property
    def model(self) -> EmbeddingModel:
        """The model that it runs."""
        return self._model

    def submit(self, images: Sequence[tuple[int, ImageInput]], deadline: Deadline, sink: Sink) -> None:
        """Takes all images of a unary call, with their sequences, or refuses at once.

        Raises:
            Overloaded: the queue has no room for them, or is too long for the deadline.
        """
        sizes = [_size(image) for _, image in images]
        self._admission.enter(len(images), sum(sizes), deadline)
        now, remaining = self._clock.monotonic(), deadline.remaining()
        ends_at = float("inf") if remaining is None else now + remaining
        for (sequence, image), size in zip(images, sizes, strict=True):
            self._start(Item(image, sequence, deadline, sink, True, size, now, ends_at))
        self._show_level()

    def submit_when_free(self, image: ImageInput, sequence: int, deadline: Deadline, sink: Sink) -> None:
        """Waits for room, then takes one image of a stream.

        Raises:
            DeadlineExceeded: the caller left or its time is up.
        """
        size = _size(image)
        self._admission.enter_when_free(size, deadline)
        self._start(Item(image, sequence, deadline, sink, False, size, self._clock.monotonic()))
        self._show_level()

    def close(self) -> None:
        """Ends the threads; what has not begun fails with BackendUnavailable."""
        for stage in (self._fetching, self._decoding, self._device):
            self._end([(item, _closing()) for item in stage.close()])
        self._cache.close()

    # ---- stages ----

    def _start(self, item: Item) -> None:
        self._hand(item, self._fetching if item.image.uri else self._decoding)

    def _hand(self, item: Item, stage: Stage) -> None:
        if not stage.put(item):
            self._end([(item, _closing())])

    def _fetch(self, items: list[Item]) -> None:
        (item,) = items
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
        item.image = ImageInput(item.image.image_id, data)
        self._admission.resize(item, len(data))
        self._observe("fetch", started)
        self._hand(item, self._decoding)

    def _decode(self, items: list[Item]) -> None:
        (item,) = items
        item.deadline.check()
        started = self._clock.monotonic()
        item.key = item.key or _content_key(item.image)
        if self._flights.follow(item):
            return
        known = self._cache.get(item.key)
        if known is not None:
            self._end([(item, known)], cached=True)
            return
        item.prepared = self._prepared(item.image)
        item.image = ImageInput(item.image.image_id, text=item.image.text)  # the encoded bytes are not needed any more
        self._observe("decode", started)
        self._hand(item, self._device)

    def _fill(self, waiting: int) -> float:
        """Waiting for more pays only while more are on their way."""
        return self._limits.max_delay_seconds if self._admission.items > waiting else 0.0

    def _prepared(self, image: ImageInput) -> NDArray[Any]:
        if image.text:
            return self._model.prepare_text(image.text)
        return self._model.prepare(image.data) if image.pixels is None else self._model.prepare_pixels(image.pixels)

    def _compute(self, items: list[Item]) -> None:
        batch = self._in_time(items)
        texts, images = [item for item in batch if item.image.text], [item for item in batch if not item.image.text]
        if images:
            self._run(images, self._model.embed)
        if texts:
            self._run(texts, self._model.embed_texts)

    def _run(self, batch: list[Item], embed: Callable[[Sequence[NDArray[Any]]], NDArray[np.float32]]) -> None:
        started = self._clock.monotonic()
        vectors = embed([item.prepared for item in batch if item.prepared is not None])  # [N, D]
        ended = self._clock.monotonic()
        outcomes: list[tuple[Item, Outcome]] = []
        for item, row, bad in zip(batch, vectors, bad_rows(vectors), strict=True):
            if bad:
                error = InvalidInput("the model gives no usable vector for it", reason="VECTOR_UNUSABLE")
                outcomes.append((item, error))
                continue
            vector = row.copy()  # a view would keep the whole batch alive in the cache
            vector.flags.writeable = False
            outcomes.append((item, vector))
        self._cache.put([(item.key, outcome) for item, outcome in outcomes if not isinstance(outcome, GandtError)])
        # While work was waiting, the time between two batches is the pace of the slowest stage.
        since = max(self._batch_ended_at, min(item.admitted_at for item in batch))
        self._batch_ended_at = ended
        self._admission.note_batch(len(batch), ended - since)
        self._meter.observe("gandt_embedding_batch_size", len(batch))
        self._meter.observe("gandt_embedding_stage_seconds", ended - started, stage="device")
        for item in batch:
            self._meter.observe("gandt_embedding_queue_seconds", started - item.admitted_at)
        self._end(outcomes)

    def _in_time(self, items: list[Item]) -> list[Item]:
        """Those that somebody still waits for; the others end here."""
        batch, dropped = list[Item](), list[tuple[Item, Outcome]]()
        for item in items:
            try:
                item.deadline.check()
                batch.append(item)
            except GandtError as error:
                dropped.append((item, error))
        self._end(dropped)
        return batch

    # ---- the end ----

    def _failed(self, items: Sequence[Item], error: Exception) -> None:
        """What a stage raised ends its images."""
        if not isinstance(error, GandtError):
            log.error("an image or the model failed unexpectedly", exc_info=error)
            error = GandtError("the image failed on an unexpected error; the service's log has the details")
        self._end([(item, error) for item in items if not item.ended])

    def _end(self, outcomes: list[tuple[Item, Outcome]], cached: bool = False) -> None:
        """Delivers results, one call for each caller, also to the images that followed these."""
        ended: list[Item] = []
        results: dict[Sink, list[EmbedResult]] = {}
        counts: dict[str, int] = {}
        hits = 0
        for leader, outcome in outcomes:
            left = isinstance(outcome, DeadlineExceeded)
            followers = self._flights.end(leader)
            if left:  # its followers have callers of their own
                for follower in followers:
                    self._hand(follower, self._decoding)
                followers = []
            for item in (leader, *followers):
                known = cached or item is not leader
                result = _result(item, outcome, known)
                item.ended = True
                ended.append(item)
                results.setdefault(item.sink, []).append(result)
                name = "dropped" if left else "error" if result.error else "ok"
                counts[name] = counts.get(name, 0) + 1
                hits += result.cached
        if not ended:
            return
        self._admission.leave(ended)
        for name, count in counts.items():
            self._meter.increment("gandt_embedding_images_total", count, result=name)
        if hits:
            self._meter.increment("gandt_embedding_cache_hits_total", hits)
        self._show_level()
        for sink, part in results.items():
            sink.deliver(part)

    def _show_level(self) -> None:
        self._meter.set_level("gandt_embedding_queue_items", self._admission.items)

    def _observe(self, stage: str, started: float) -> None:
        self._meter.observe("gandt_embedding_stage_seconds", self._clock.monotonic() - started, stage=stage)


def _size(image: ImageInput) -> int:
    return _UNREAD_BYTES if image.uri else image.size_bytes


def _content_key(image: ImageInput) -> bytes:
    """SHA-256 of what determines the vector: the encoded bytes, the text, or the pixels with their shape."""
    if image.text:
        return hashlib.sha256(b"text\0" + image.text.encode("utf-8", "surrogatepass")).digest()
    if image.pixels is None:
        return hashlib.sha256(image.data).digest()
    digest = hashlib.sha256(repr(image.pixels.shape).encode())
    digest.update(np.ascontiguousarray(image.pixels).data)
    return digest.digest()


def _result(item: Item, outcome: Outcome, known: bool) -> EmbedResult:
    if isinstance(outcome, GandtError):
        return EmbedResult(item.name, item.sequence, error=outcome)
    return EmbedResult(item.name, item.sequence, vector=outcome, cached=known)


def _closing() -> BackendUnavailable:
    return BackendUnavailable("the embedding service is shutting down", backend="embedding", reason="SHUTTING_DOWN")
