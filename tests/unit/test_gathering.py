# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that go together: at once when idle, in turn, each with its own outcome, and never for callers that left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from gandt.domain.errors import GandtError, InvalidInput, Overloaded
from gandt.runtime.gathering import Gathering
from gandt.runtime.work_pool import WorkPool


@pytest.fixture
def pool() -> Iterator[WorkPool]:
    made = WorkPool(workers=2)
    yield made
    made.close(5)


class Work:
    """Doubles numbers; the first group of each key waits until it is let go."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.started = threading.Event()
        self.go = threading.Event()

    def __call__(self, items: Sequence[int]) -> list[int | GandtError]:
        self.groups.append(list(items))
        self.started.set()
        self.go.wait(10)
        return [2 * item if item >= 0 else InvalidInput(f"{item} is negative", field="item") for item in items]


async def _waiting(gathering: Gathering[int, int], work: Work, items: Sequence[int]) -> list[asyncio.Task[int]]:
    """Tasks of which the first runs and the others wait."""
    tasks = [asyncio.create_task(gathering.call("key", item)) for item in items]
    await asyncio.sleep(0)
    await asyncio.to_thread(work.started.wait, 10)
    return tasks


async def test_what_arrives_while_work_runs_goes_together_in_turn(pool: WorkPool) -> None:
    work = Work()
    tasks = await _waiting(Gathering(pool, work, most=2), work, [1, 2, 3, 4])
    work.go.set()
    assert await asyncio.gather(*tasks) == [2, 4, 6, 8]
    assert work.groups == [[1], [2, 3], [4]]


async def test_an_error_is_raised_at_its_caller_only(pool: WorkPool) -> None:
    work = Work()
    tasks = await _waiting(Gathering(pool, work), work, [1, -2, 3])
    work.go.set()
    first, second, third = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, third) == (2, 6)
    assert isinstance(second, InvalidInput)


async def test_a_caller_that_left_is_not_worked_for(pool: WorkPool) -> None:
    work = Work()
    tasks = await _waiting(Gathering(pool, work), work, [1, 2, 3])
    tasks[1].cancel()
    await asyncio.sleep(0)
    work.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(outcomes[1], asyncio.CancelledError)
    assert work.groups == [[1], [3]]


async def test_other_keys_do_not_wait(pool: WorkPool) -> None:
    work = Work()
    gathering = Gathering(pool, work)
    tasks = await _waiting(gathering, work, [1])
    other = asyncio.create_task(gathering.call("other", 5))
    while len(work.groups) < 2:
        await asyncio.to_thread(work.started.wait, 10)
    work.go.set()
    await asyncio.gather(*tasks)
    assert await other == 10


async def test_too_many_are_refused_and_room_comes_back(pool: WorkPool) -> None:
    work = Work()
    gathering = Gathering(pool, work, waiting=1)
    tasks = await _waiting(gathering, work, [1, 2])
    with pytest.raises(Overloaded):
        await gathering.call("key", 3)
    work.go.set()
    await asyncio.gather(*tasks)
    assert await gathering.call("key", 4) == 8


async def test_a_bug_in_the_work_reaches_all_and_the_next_call_works(pool: WorkPool) -> None:
    broken = [True]

    def work(items: Sequence[int]) -> list[int | GandtError]:
        if broken:
            broken.clear()
            raise ZeroDivisionError
        return list(items)

    gathering = Gathering(pool, work)
    with pytest.raises(ZeroDivisionError):
        await gathering.call("key", 1)
    assert await gathering.call("key", 2) == 2
