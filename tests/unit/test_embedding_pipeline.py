# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of images through the embedding service, on the fake model: batches, order, limits, errors, metrics."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import pytest
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Pipeline
from numpy.typing import NDArray

from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.memory_model import MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.embedding import EmbedResult, ImageInput
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Overloaded
from gandt.ports.clock import NO_DEADLINE
from tests.embedding_world import WAIT, Caller, Held, decoded, png, running, stream, submit, use_cases


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


def test_texts_run_beside_images_and_each_has_its_own_vector() -> None:
    model, meter = Held(), MemoryMeter()
    with running(model, meter, max_batch=8) as pipeline:
        submit(pipeline, [0])
        assert model.entered.wait(WAIT)
        caller = Caller()
        inputs = [ImageInput(text="red"), ImageInput("photo", png(1)), ImageInput(text="blue"), ImageInput(text=" ")]
        pipeline.submit(list(enumerate(inputs)), NO_DEADLINE, caller)
        decoded(meter, 4)
        model.gate.set()
        red, photo, blue, blank = caller.wait(4)
    assert model.batches == [1, 1, 2]  # the image, then both texts
    for result, prepared in ((red, model.prepare_text("red")), (blue, model.prepare_text("blue"))):
        np.testing.assert_array_equal(result.vector, MemoryModel().embed_texts([prepared])[0])
    np.testing.assert_array_equal(photo.vector, MemoryModel().embed([model.prepare(png(1))])[0])
    assert blank.error is not None
    assert blank.error.reason == "BAD_TEXT"
