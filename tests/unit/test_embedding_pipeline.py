# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedding service's use cases on the fake model: limits, errors, cache, deadlines, metrics."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Pipeline
from gandt_embedding.service import EmbeddingService
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.memory_model import MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.embedding import EmbedResult, ImageInput, StreamItems, StreamOpen, StreamResults
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Overloaded, WrongState
from gandt.ports.clock import NO_DEADLINE, Deadline

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


def test_what_is_ready_runs_together_up_to_the_limit() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, max_batch=4) as pipeline:
        first = submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        rest = submit(pipeline, range(1, 11))
        decoded(meter, 11)
        model.gate.set()
        for result in first.wait() + rest.wait(10):
            assert result.vector is not None
            assert result.vector.shape == (model.info.dim,)
    assert model.batches == [1, 4, 4, 2]
    assert list(map(len, rest.deliveries)) == [4, 4, 2]  # one delivery a batch
    assert meter.value("gandt_embedding_images_total", result="ok") == 11
    assert meter.value("gandt_embedding_queue_items") == 0
    assert meter.observations("gandt_embedding_batch_size") == [1, 4, 4, 2]
    assert len(meter.observations("gandt_embedding_queue_seconds")) == 11
    assert len(meter.observations("gandt_embedding_stage_seconds", stage="device")) == 4


def test_unary_calls_go_before_streams_and_streams_keep_their_share() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, max_batch=8) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        bulk = stream(pipeline, range(100, 110))
        decoded(meter, 11)
        urgent = submit(pipeline, range(1, 17))
        decoded(meter, 27)
        model.gate.set()
        urgent.wait(16)
        bulk.wait(10)
    assert model.batches == [1, 8, 8, 8, 2]
    assert list(map(len, urgent.deliveries)) == [7, 7, 2]
    assert list(map(len, bulk.deliveries)) == [1, 1, 6, 2]


def test_the_nearest_deadline_goes_first() -> None:
    model, meter, clock = Held(), MemoryMeter(), ManualClock()
    order: list[str] = []

    class Ordered(Caller):
        def deliver(self, results: list[EmbedResult]) -> None:
            order.extend(result.image_id for result in results)
            super().deliver(results)

    with running(model, meter, max_batch=1) as pipeline:
        caller = Ordered()
        submit(pipeline, [0], caller=caller)
        assert model.entered.wait(WAIT)
        for seed, seconds in ((1, None), (2, 9.0), (3, 3.0), (4, 6.0)):
            submit(pipeline, [seed], ManualDeadline(clock, seconds), caller)
        decoded(meter, 5)
        model.gate.set()
        caller.wait(5)
    assert order == ["0", "3", "4", "2", "1"]


def test_an_idle_device_waits_for_what_is_on_its_way_and_goes_when_the_batch_is_full() -> None:
    class SlowDecoder(MemoryModel):
        def __init__(self) -> None:
            super().__init__()
            self.batches: list[int] = []
            self.decode = threading.Semaphore(0)

        def prepare(self, data: bytes) -> NDArray[np.uint8]:
            assert self.decode.acquire(timeout=WAIT)
            return super().prepare(data)

        def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            self.batches.append(len(prepared))
            return super().embed(prepared)

    model, meter = SlowDecoder(), MemoryMeter()
    with running(model, meter, max_batch=4, max_delay_seconds=10 * WAIT) as pipeline:
        caller = submit(pipeline, range(4))
        model.decode.release()
        decoded(meter, 1)
        model.decode.release(3)
        caller.wait(4)
        model.decode.release()
        submit(pipeline, [9]).wait()  # alone: nothing else is on its way, so nothing is waited for
    assert model.batches == [4, 1]


def test_a_full_queue_refuses_unary_calls_and_lets_streams_wait() -> None:
    model = Held()
    with running(model, queue_items=4) as pipeline:
        taken = submit(pipeline, range(4))
        with pytest.raises(Overloaded) as caught:
            submit(pipeline, [9])
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_seconds > 0
        clock = ManualClock()
        deadline = ManualDeadline(clock, 1.0)
        clock.advance(2.0)
        with pytest.raises(DeadlineExceeded):
            stream(pipeline, [9], deadline)
        late: list[Caller] = []
        waiting = threading.Thread(target=lambda: late.append(stream(pipeline, [9])))
        waiting.start()
        assert not late
        model.gate.set()
        waiting.join(WAIT)
        assert late[0].wait()[0].error is None
        assert all(result.error is None for result in taken.wait(4))


def test_a_call_that_cannot_make_its_deadline_is_refused_at_once() -> None:
    class Paced(Held):
        """Takes a second for a batch, by the clock."""

        def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            vectors = super().embed(prepared)
            clock.advance(1.0)
            return vectors

    clock, model = ManualClock(), Paced()
    with running(model, clock=clock, max_batch=4, cache=0) as pipeline:
        model.gate.set()
        for _ in range(8):
            submit(pipeline, [0]).wait()  # the pace becomes known
        model.gate.clear()
        model.entered.clear()
        waiting = [submit(pipeline, range(1, 9))]
        assert model.entered.wait(WAIT)
        with pytest.raises(Overloaded) as caught:
            submit(pipeline, [9], ManualDeadline(clock, 2.0))
        assert caught.value.reason == "WAIT_TOO_LONG"
        assert caught.value.retry_after_seconds > 0.1
        waiting.append(submit(pipeline, [9], ManualDeadline(clock, 60.0)))
        waiting.append(submit(pipeline, [10]))  # without a deadline nothing is too long
        model.gate.set()
        assert [len(caller.wait(n)) for caller, n in zip(waiting, (8, 1, 1), strict=True)] == [8, 1, 1]
        assert submit(pipeline, [11], ManualDeadline(clock, 0.1)).wait()  # alone it may try


def test_bytes_are_bounded_too_and_one_large_image_still_gets_in() -> None:
    with running(Held(), queue_bytes=2**20) as pipeline:
        large = (0, ImageInput("large", b"\xff" * 2**21))
        caller = Caller()
        pipeline.submit([large], NO_DEADLINE, caller)
        assert isinstance(caller.wait()[0].error, InvalidInput)  # refused by the decoder, not by the queue
        submit(pipeline, [1])
        with pytest.raises(Overloaded):
            pipeline.submit([large], NO_DEADLINE, caller)


def test_nobody_s_images_are_not_computed() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        deadline = ManualDeadline(ManualClock())
        left = submit(pipeline, [1], deadline)
        decoded(meter, 2)
        deadline.cancel()
        model.gate.set()
        assert isinstance(left.wait()[0].error, DeadlineExceeded)
        assert isinstance(submit(pipeline, [2], deadline).wait()[0].error, DeadlineExceeded)
        assert isinstance(stream(pipeline, [3], deadline).wait()[0].error, DeadlineExceeded)
    assert model.batches == [1]
    assert len(meter.observations("gandt_embedding_stage_seconds", stage="decode")) == 2
    assert meter.value("gandt_embedding_images_total", result="dropped") == 3


def test_a_failing_model_fails_the_batch_and_the_next_one_runs(caplog: pytest.LogCaptureFixture) -> None:
    class Fails(MemoryModel):
        broken = True

        def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
            if self.broken:
                raise RuntimeError("out of memory")
            return super().embed(prepared)

    model = Fails()
    with running(model) as pipeline:
        error = submit(pipeline, [1]).wait()[0].error
        assert isinstance(error, GandtError)
        assert "out of memory" not in str(error)
        model.broken = False
        assert submit(pipeline, [1]).wait()[0].error is None
    assert "failed unexpectedly" in caplog.text
    assert "out of memory" in caplog.text


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
    caller = submit(pipeline, range(20))
    assert model.entered.wait(WAIT)
    closing = threading.Thread(target=pipeline.close)
    closing.start()
    model.gate.set()
    closing.join(WAIT)
    assert all(result.error is None or isinstance(result.error, BackendUnavailable) for result in caller.wait(20))
    assert isinstance(submit(pipeline, [1]).wait()[0].error, BackendUnavailable)


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


def test_identical_images_under_way_are_computed_once() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, cache=0) as pipeline:
        urgent = submit(pipeline, [1, 1, 2, 1])
        assert model.entered.wait(WAIT)
        bulk = stream(pipeline, [1, 2, 3])
        decoded(meter, 3)  # of one decode thread: all before it are through
        model.gate.set()
        results = urgent.wait(4) + bulk.wait(3)[:2]
    assert sum(model.batches) == 3
    assert [result.cached for result in results] == [False, True, False, True, True, True]
    for result in results:
        np.testing.assert_array_equal(result.vector, results[2 if result.image_id == "2" else 0].vector)
    assert meter.value("gandt_embedding_cache_hits_total") == 4
    assert meter.value("gandt_embedding_queue_items") == 0


def test_a_unary_call_does_not_wait_behind_a_stream_s_identical_image() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, cache=0, max_batch=1) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        bulk = stream(pipeline, [8, 9])
        decoded(meter, 3)
        urgent = submit(pipeline, [9])
        decoded(meter, 4)
        model.gate.set()
        urgent.wait()
        bulk.wait(2)
    assert model.batches == [1, 1, 1, 1]


def test_who_followed_an_image_whose_caller_left_still_gets_the_vector() -> None:
    model, meter = Held(), MemoryMeter()
    leaving = ManualDeadline(ManualClock())
    with running(model, meter, cache=0) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        left = submit(pipeline, [1], leaving)
        decoded(meter, 2)
        staying = [submit(pipeline, [1]), submit(pipeline, [1]), submit(pipeline, [2])]
        decoded(meter, 3)  # of one decode thread: all before it are through
        leaving.cancel()
        model.gate.set()
        assert isinstance(left.wait()[0].error, DeadlineExceeded)
        assert [caller.wait()[0].error for caller in staying] == [None, None, None]
    assert sum(model.batches) == 3
    assert meter.value("gandt_embedding_queue_items") == 0


def test_a_bad_image_fails_its_followers_too() -> None:
    with running(MemoryModel()) as pipeline:
        results = use_cases(pipeline).embed([ImageInput(str(n), png(1)[:50]) for n in range(3)])
    assert [result.error.reason if result.error else "" for result in results] == ["IMAGE_TRUNCATED"] * 3


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


def test_a_draining_server_finishes_what_it_has_read_and_ends_the_stream() -> None:
    class Draining(ManualDeadline):
        def check(self) -> None:
            try:
                super().check()
            except DeadlineExceeded:
                raise BackendUnavailable("the server is shutting down", reason="SHUTTING_DOWN") from None

    draining, silent = Draining(ManualClock()), threading.Event()

    def requests() -> Iterator[StreamOpen | StreamItems]:
        yield StreamOpen()
        yield StreamItems(40, [ImageInput(str(n), png(n)) for n in range(5)])
        assert silent.wait(WAIT)  # a client that sends nothing more, and does not end either

    with running(MemoryModel()) as pipeline:
        answers = use_cases(pipeline).embed_stream(requests(), reading=draining)
        ack = 0
        while ack < 45:
            answer = next(answers)
            ack = answer.contiguous_ack if isinstance(answer, StreamResults) else 0
        draining.cancel()
        with pytest.raises(BackendUnavailable):
            next(answers)
        silent.set()
