# SPDX-License-Identifier: GPL-3.0-or-later
"""A pipeline of the embedding service on a model that is held by hand, and callers of it."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Pipeline
from gandt_embedding.service import EmbeddingService
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters.memory_clock import ManualClock, MemoryMeter
from gandt.adapters.memory_model import MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.embedding import EmbedResult, ImageInput
from gandt.ports.clock import NO_DEADLINE, Deadline

WAIT = 20.0


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


class Held(MemoryModel):
    """Computes only while its gate is open, and remembers its batches: their sizes, and the images in order."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []
        self.seen: list[bytes] = []

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(WAIT)
        self.batches.append(len(prepared))
        self.seen += [pixels.tobytes() for pixels in prepared]
        return super().embed(prepared)


@contextmanager
def running(
    model: MemoryModel,
    meter: MemoryMeter | None = None,
    clock: ManualClock | None = None,
    cache: int = 2**20,
    **limits: Any,
) -> Iterator[Pipeline]:
    pipeline = Pipeline(
        model, MemoryObjects(), VectorCache(cache), Limits(**limits), meter or MemoryMeter(), clock or ManualClock()
    )
    try:
        yield pipeline
    finally:
        if isinstance(model, Held):
            model.gate.set()
        pipeline.close()


def use_cases(pipeline: Pipeline, window: int = 8) -> EmbeddingService:
    service = EmbeddingService(lambda: pipeline, window)
    service.warm_up()
    return service


def eventually(condition: Callable[[], bool]) -> None:
    ticks = threading.Event()
    for _ in range(int(WAIT / 0.005)):
        if condition():
            return
        ticks.wait(0.005)
    raise AssertionError("it never came true")


class Caller:
    """Waits for results; remembers how many deliveries brought them."""

    def __init__(self) -> None:
        self.deliveries: list[list[EmbedResult]] = []
        self._changed = threading.Condition()

    def deliver(self, results: list[EmbedResult]) -> None:
        with self._changed:
            self.deliveries.append(results)
            self._changed.notify_all()

    def wait(self, count: int = 1) -> list[EmbedResult]:
        """That many results by sequence."""
        with self._changed:
            assert self._changed.wait_for(lambda: sum(map(len, self.deliveries)) >= count, WAIT)
            results = [result for part in self.deliveries for result in part]
        assert len(results) == count
        return sorted(results, key=lambda result: result.sequence)


def submit(
    pipeline: Pipeline, seeds: Sequence[int], deadline: Deadline = NO_DEADLINE, caller: Caller | None = None
) -> Caller:
    """A unary call of images with these contents."""
    caller = caller or Caller()
    pipeline.submit([(n, ImageInput(str(seed), png(seed))) for n, seed in enumerate(seeds)], deadline, caller)
    return caller


def stream(pipeline: Pipeline, seeds: Sequence[int], deadline: Deadline = NO_DEADLINE) -> Caller:
    """The same as a stream."""
    caller = Caller()
    for n, seed in enumerate(seeds):
        pipeline.submit_when_free(ImageInput(str(seed), png(seed)), n, deadline, caller)
    return caller


def decoded(meter: MemoryMeter, count: int) -> None:
    eventually(lambda: len(meter.observations("gandt_embedding_stage_seconds", stage="decode")) >= count)
