# SPDX-License-Identifier: GPL-3.0-or-later
"""A stage of the pipeline: images that wait, and the threads that work on them.

Images of unary calls go first, the one with the nearest deadline before the others, because somebody waits for them.
Images of streams follow in their order. So that streams never starve, every eighth place is theirs.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from gandt.domain.embedding import EmbedResult, ImageInput
from gandt.ports.clock import Deadline

BULK_EVERY = 8  # one place in so many goes to streams while both kinds wait
_NEVER = float("inf")


class Sink(Protocol):
    """Who waits for results."""

    def deliver(self, results: list[EmbedResult]) -> None:
        """Takes the results of a batch; called from the pipeline's threads, must not wait."""
        ...


@dataclass(slots=True, eq=False)
class Item:
    """An image on its way.

    Attributes:
        sequence: its place in the call or stream.
        urgent: whether a unary call waits for it.
        size: bytes that it counts for.
        admitted_at: on the monotonic clock, seconds.
        ends_at: when its caller's time is up, on the same clock.
        key: hash of its content, once known.
        prepared: u8[H, W, 3] of an image, the model's own array of a text, once decoded.
        followers: images of the same content that wait for its vector.
        ended: whether it has its result.
    """

    image: ImageInput
    sequence: int
    deadline: Deadline
    sink: Sink
    urgent: bool
    size: int
    admitted_at: float
    ends_at: float = _NEVER
    key: bytes = b""
    prepared: NDArray[Any] | None = None
    followers: list[Item] = field(default_factory=list)
    ended: bool = False

    @property
    def name(self) -> str:
        """The caller's id, or the place."""
        return self.image.image_id or str(self.sequence)


class Line:
    """What waits for a stage. Thread-safe."""

    def __init__(self) -> None:
        self._urgent: list[tuple[float, int, Item]] = []  # a heap: deadline, arrival
        self._bulk: deque[Item] = deque()
        self._passed = 0  # unary images that went ahead of a waiting stream in a row
        self._arrivals = itertools.count()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: Item) -> bool:
        """Adds one; False when the line is closed."""
        with self._changed:
            if self._closed:
                return False
            if item.urgent:
                heapq.heappush(self._urgent, (item.ends_at, next(self._arrivals), item))
            else:
                self._bulk.append(item)
            self._changed.notify()
            return True

    def take(self, most: int, fill: Callable[[int], float] | None = None) -> list[Item]:
        """The next ones, waiting for the first; [] once the line is closed.

        Args:
            fill: given how many wait, the seconds to wait for more (0: go now).
        """
        with self._changed:
            while not self._closed and not len(self):
                self._changed.wait()
            if fill is not None:
                self._fill(most, fill)
            if self._closed:
                return []
            return [self._next() for _ in range(min(most, len(self)))]

    def close(self) -> list[Item]:
        """Wakes who waits; what is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            left = [self._next() for _ in range(len(self))]
        return left

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk)

    def _fill(self, most: int, fill: Callable[[int], float]) -> None:
        started = time.monotonic()  # of the condition's own clock
        while not self._closed and len(self) < most:
            left = started + fill(len(self)) - time.monotonic()
            if left <= 0 or not self._changed.wait(left):
                return

    def _next(self) -> Item:
        if self._bulk and (not self._urgent or self._passed >= BULK_EVERY - 1):
            self._passed = 0
            return self._bulk.popleft()
        self._passed = self._passed + 1 if self._bulk else 0
        return heapq.heappop(self._urgent)[2]


class Stage:
    """Threads that take from a line; they start with the first item.

    Args:
        name: of the threads.
        threads: how many.
        work: does what the stage is for.
        failed: told what `work` raised.
        most: items handed to `work` at once.
        fill: see `Line.take`.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        work: Callable[[list[Item]], None],
        failed: Callable[[Sequence[Item], Exception], None],
        most: int = 1,
        fill: Callable[[int], float] | None = None,
    ) -> None:
        self._line = Line()
        self._work, self._failed, self._most, self._fill = work, failed, most, fill
        self._threads = [threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        self._started = False
        self._starting = threading.Lock()

    def put(self, item: Item) -> bool:
        """Hands an item on; False when the stage is closed."""
        if not self._started:
            with self._starting:
                if not self._started:
                    for thread in self._threads:
                        thread.start()
                    self._started = True
        return self._line.put(item)

    def close(self) -> list[Item]:
        """Waits for what is being worked on; what has not begun."""
        left = self._line.close()
        if self._started:
            for thread in self._threads:
                thread.join()
        return left

    def _run(self) -> None:
        while items := self._line.take(self._most, self._fill):
            try:
                self._work(items)
            except Exception as error:  # noqa: BLE001 (a thread must outlive a bad image; nobody may wait for ever)
                self._failed(items, error)
            del items  # or an idle thread would hold its last images
