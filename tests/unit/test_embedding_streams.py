# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedding service's use cases on the fake model: limits of calls, and streams."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from gandt_embedding.service import EmbeddingService

from gandt.adapters.memory_clock import ManualClock, ManualDeadline
from gandt.adapters.memory_model import MemoryModel
from gandt.domain.embedding import EmbedResult, ImageInput, StreamItems, StreamOpen, StreamResults
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, InvalidInput, WrongState
from tests.embedding_world import WAIT, Held, eventually, png, running, use_cases


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
