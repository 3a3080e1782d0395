# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls that wait for the same thing go together: while one piece of work runs, the next one fills up.

A call that finds nothing running starts at once, so an idle server adds no delay. First come, first served;
a caller that has left is not worked for. Only the event loop touches this, so there is no lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from gandt.domain.errors import GandtError, Overloaded
from gandt.runtime.work_pool import WorkPool

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting(Generic[Item, Answer]):
    item: Item
    answer: asyncio.Future[Answer]
    context: contextvars.Context


class Gathering(Generic[Item, Answer]):
    """Groups of calls, by key.

    Args:
        pool: whose workers do the work.
        work: answers some items in order; an error in place of an answer is raised at its caller only.
        most: items at once.
        waiting: calls that may wait, over all keys, before new ones are refused.
    """

    def __init__(
        self,
        pool: WorkPool,
        work: Callable[[Sequence[Item]], Sequence[Answer | GandtError]],
        most: int = 64,
        waiting: int = 1024,
    ) -> None:
        self._pool = pool
        self._work = work
        self._most = most
        self._room = waiting
        self._queues: dict[Hashable, deque[_Waiting[Item, Answer]]] = {}  # a key is there while its work runs

    async def call(self, key: Hashable, item: Item) -> Answer:
        """The answer to one item.

        Args:
            key: items of one key may go together, and never run at the same time.
        Raises:
            Overloaded: too many calls wait.
            GandtError: what the work says of this item.
        """
        loop = asyncio.get_running_loop()
        mine: _Waiting[Item, Answer] = _Waiting(item, loop.create_future(), contextvars.copy_context())
        queue = self._queues.get(key)
        if queue is None:
            self._queues[key] = deque()
            self._start(loop, key, [mine])
        elif self._room <= 0:
            raise Overloaded("the server is at its limit and its queue is full", reason="QUEUE_FULL")
        else:
            self._room -= 1
            queue.append(mine)
        return await mine.answer

    def _start(self, loop: asyncio.AbstractEventLoop, key: Hashable, group: list[_Waiting[Item, Answer]]) -> None:
        try:
            running = group[0].context.run(self._pool.submit, self._work, [one.item for one in group])
        except GandtError as error:  # no worker is free, or the server is shutting down
            for one in group:
                _raise_at(one, error)
            self._go_on(loop, key)
            return

        def ended(done: Future[Sequence[Answer | GandtError]]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(self._ended, loop, key, group, done)

        running.add_done_callback(ended)

    def _ended(
        self,
        loop: asyncio.AbstractEventLoop,
        key: Hashable,
        group: list[_Waiting[Item, Answer]],
        done: Future[Sequence[Answer | GandtError]],
    ) -> None:
        self._go_on(loop, key)  # first, so that a worker is busy while the answers go out
        error: BaseException | None = asyncio.CancelledError() if done.cancelled() else done.exception()
        if error is not None:
            for one in group:
                _raise_at(one, error)
            return
        for one, answer in zip(group, done.result(), strict=True):
            if isinstance(answer, GandtError):
                _raise_at(one, answer)
            elif not one.answer.done():
                one.answer.set_result(answer)

    def _go_on(self, loop: asyncio.AbstractEventLoop, key: Hashable) -> None:
        queue = self._queues[key]
        group: list[_Waiting[Item, Answer]] = []
        while queue and len(group) < self._most:
            one = queue.popleft()
            self._room += 1
            if not one.answer.done():  # else its caller has left
                group.append(one)
        if group:
            self._start(loop, key, group)
        else:
            del self._queues[key]


def _raise_at(one: _Waiting[Any, Any], error: BaseException) -> None:
    if one.answer.done():
        return
    if isinstance(error, asyncio.CancelledError):
        one.answer.cancel()
    else:
        one.answer.set_exception(error)
