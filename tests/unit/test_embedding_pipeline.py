# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedding service's use cases on the fake model: limits, errors, cache, deadlines, metrics."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Limits, Pipeline
from gandt_embedding.service import EmbeddingService
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.memory_model import MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.embedding import EmbedResult, ImageInput, StreamItems, StreamOpen, StreamResults
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Overloaded, WrongState
from gandt.ports.clock import NO_DEADLINE

WAIT = 20.0


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


class Held(MemoryModel):
    """Computes only while its gate is open, and remembers its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[int] = []

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        self.entered.set()
        assert self.gate.wait(WAIT)
        self.batches.append(len(prepared))
        return super().embed(prepared)


@contextmanager
def running(model: MemoryModel, meter: MemoryMeter | None = None, **limits: Any) -> Iterator[Pipeline]:
    pipeline = Pipeline(
        model, MemoryObjects(), VectorCache(2**20), Limits(**limits), meter or MemoryMeter(), ManualClock()
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


def test_what_is_ready_runs_together_up_to_the_limit() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, max_batch=4) as pipeline:
        first = pipeline.submit([ImageInput("0", png(0))], NO_DEADLINE)
        assert model.entered.wait(WAIT)
        rest = pipeline.submit([ImageInput(str(n), png(n)) for n in range(1, 11)], NO_DEADLINE)
        eventually(lambda: len(meter.observations("gandt_embedding_stage_seconds", stage="decode")) == 11)
        model.gate.set()
        for future in [*first, *rest]:
            assert future.result(WAIT).vector.shape == (model.info.dim,)
    assert model.batches[0] == 1
    assert sum(model.batches) == 11
    assert max(model.batches) == 4
    assert meter.value("gandt_embedding_images_total", result="ok") == 11
    assert meter.value("gandt_embedding_queue_items") == 0
    assert sum(meter.observations("gandt_embedding_batch_size")) == 11


def test_a_full_queue_refuses_unary_calls_and_lets_streams_wait() -> None:
    model = Held()
    with running(model, queue_items=4) as pipeline:
        taken = pipeline.submit([ImageInput(str(n), png(n)) for n in range(4)], NO_DEADLINE)
        with pytest.raises(Overloaded) as caught:
            pipeline.submit([ImageInput("x", png(9))], NO_DEADLINE)
        assert caught.value.retry_after_seconds > 0
        clock = ManualClock()
        deadline = ManualDeadline(clock, 1.0)
        clock.advance(2.0)
        with pytest.raises(DeadlineExceeded):
            pipeline.submit_when_free(ImageInput("x", png(9)), deadline)
        late: list[Future[Any]] = []
        waiting = threading.Thread(
            target=lambda: late.append(pipeline.submit_when_free(ImageInput("x", png(9)), NO_DEADLINE))
        )
        waiting.start()
        assert not late
        model.gate.set()
        waiting.join(WAIT)
        assert late[0].result(WAIT)
        assert all(future.result(WAIT) for future in taken)


def test_bytes_are_bounded_too_and_one_large_image_still_gets_in() -> None:
    with running(Held(), queue_bytes=2**20) as pipeline:
        large = ImageInput("large", b"\xff" * 2**21)
        pipeline.submit([large], NO_DEADLINE)[0].exception(WAIT)  # refused by the decoder, not by the queue
        pipeline.submit([ImageInput("a", png(1))], NO_DEADLINE)
        with pytest.raises(Overloaded):
            pipeline.submit([large], NO_DEADLINE)


def test_nobody_s_images_are_not_computed() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter) as pipeline:
        pipeline.submit([ImageInput("0", png(0))], NO_DEADLINE)
        assert model.entered.wait(WAIT)
        deadline = ManualDeadline(ManualClock())
        left = pipeline.submit([ImageInput("1", png(1))], deadline)[0]
        eventually(lambda: len(meter.observations("gandt_embedding_stage_seconds", stage="decode")) == 2)
        deadline.cancel()
        model.gate.set()
        assert isinstance(left.exception(WAIT), DeadlineExceeded)
        assert isinstance(pipeline.submit([ImageInput("2", png(2))], deadline)[0].exception(WAIT), DeadlineExceeded)
    assert model.batches == [1]
    assert meter.value("gandt_embedding_images_total", result="dropped") == 2


def test_a_failing_model_fails_the_batch_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(MemoryModel):
        broken = True

        def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            if self.broken:
                raise RuntimeError("out of memory")
            return super().embed(prepared)

    model = Fails()
    with running(model) as pipeline:
        error = pipeline.submit([ImageInput("a", png(1))], NO_DEADLINE)[0].exception(WAIT)
        assert isinstance(error, GandtError)
        assert "out of memory" not in str(error)
        model.broken = False
        assert pipeline.submit([ImageInput("a", png(1))], NO_DEADLINE)[0].result(WAIT)
    assert "the model failed" in caplog.text


def test_an_unusable_vector_fails_its_image_alone() -> None:
    class Poisoned(MemoryModel):
        def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            vectors = super().embed(prepared)
            vectors[0] = np.nan
            return vectors

    with running(Poisoned()) as pipeline:
        result = use_cases(pipeline).embed([ImageInput("a", png(1))])[0]
    assert result.error is not None
    assert result.error.reason == "VECTOR_UNUSABLE"


def test_closing_fails_what_waits() -> None:
    model = Held()
    pipeline = Pipeline(model, MemoryObjects(), VectorCache(0), Limits(), MemoryMeter(), ManualClock())
    futures = pipeline.submit([ImageInput(str(n), png(n)) for n in range(20)], NO_DEADLINE)
    assert model.entered.wait(WAIT)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    model.gate.set()
    closing.join(WAIT)
    errors = [future.exception(WAIT) for future in futures]
    assert all(error is None or isinstance(error, BackendUnavailable) for error in errors)
    assert isinstance(pipeline.submit([ImageInput("x", png(1))], NO_DEADLINE)[0].exception(WAIT), BackendUnavailable)


def test_the_cache_drops_the_least_recently_used() -> None:
    row = np.ones(100, np.float32)
    cache = VectorCache(max_bytes=3 * 700)
    for name in (b"a", b"b", b"c"):
        cache.put(name, row)
    assert cache.get(b"a") is row
    cache.put(b"d", row)
    assert [cache.get(name) is not None for name in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    cache.put(b"huge", np.ones(10_000, np.float32))
    assert len(cache) == 3
    nothing = VectorCache(0)
    nothing.put(b"a", row)
    assert nothing.get(b"a") is None


def test_repeated_content_is_computed_once() -> None:
    model, meter = Held(), MemoryMeter()
    model.gate.set()
    with running(model, meter) as pipeline:
        service = use_cases(pipeline)
        first = service.embed([ImageInput("a", png(1))])[0]
        second = service.embed([ImageInput("b", png(1))])[0]
    assert (first.cached, second.cached) == (False, True)
    np.testing.assert_array_equal(first.vector, second.vector)
    assert model.batches == [1]
    assert meter.value("gandt_embedding_cache_hits_total") == 1


def test_a_call_whose_time_runs_out_says_so() -> None:
    model = Held()
    with running(model) as pipeline:
        clock = ManualClock()
        with pytest.raises(DeadlineExceeded):
            use_cases(pipeline).embed([ImageInput("a", png(1))], deadline=ManualDeadline(clock, 0.0))


def test_limits_of_the_use_cases() -> None:
    with running(MemoryModel()) as pipeline:
        service = use_cases(pipeline)
        for images in ([], [ImageInput("a", png(1))] * 33):
            with pytest.raises(InvalidInput):
                service.embed(images)
        with pytest.raises(InvalidInput):
            service.list_models(101)
        with pytest.raises(InvalidInput):
            service.list_models(0, "page2")
        assert service.list_models(1) == ([MemoryModel().info], "")
        with pytest.raises(WrongState):
            service.embed([ImageInput("a", png(1))], model_id="other-1")
    with pytest.raises(WrongState, match="not loaded"):
        EmbeddingService(lambda: pipeline).get_model()


@pytest.mark.parametrize("window", [1, 3, 64])
def test_a_stream_gives_every_sequence_once_and_acks_without_gaps(window: int) -> None:
    broken = {5, 6, 50}

    def requests() -> Iterator[StreamOpen | StreamItems]:
        yield StreamOpen()
        for start in range(0, 100, 7):
            images = [ImageInput(f"i{n}", b"" if n in broken else png(n)) for n in range(start, min(100, start + 7))]
            yield StreamItems(start, images)

    with running(MemoryModel(), queue_items=16) as pipeline:
        _, *answers = use_cases(pipeline, window).embed_stream(requests())
    seen: set[int] = set()
    results: list[EmbedResult] = []
    for answer in answers:
        assert isinstance(answer, StreamResults)
        assert len(answer.results) <= window
        results += answer.results
        seen |= {result.sequence for result in answer.results}
        assert set(range(answer.contiguous_ack)) <= seen
        assert answer.contiguous_ack not in seen
    assert sorted(r.sequence for r in results) == list(range(100))
    assert {r.sequence for r in results if r.error} == broken


def test_a_stream_reads_no_further_than_its_window() -> None:
    given: list[int] = []

    def requests() -> Iterator[StreamOpen | StreamItems]:
        yield StreamOpen()
        for n in range(100):
            given.append(n)
            yield StreamItems(n, [ImageInput(str(n), png(n))])

    with running(MemoryModel()) as pipeline:
        answers = use_cases(pipeline, window=4).embed_stream(requests())
        next(answers)
        next(answers)
        eventually(lambda: len(given) >= 5)
        assert len(given) <= 9  # four were answered at most, four are under way, one waits at the door
        answers.close()  # type: ignore[attr-defined]
