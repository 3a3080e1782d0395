# SPDX-License-Identifier: GPL-3.0-or-later
"""The door of the pipeline: what is under way is bounded here, in images and in bytes.

Unary calls are refused at once when there is no room, or when the queue is too long for their deadline; streams wait
at the door, which ends in the client not being read any further.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass

from gandt.domain.errors import Overloaded
from gandt.ports.clock import Deadline
from gandt_embedding.pace import Pace
from gandt_embedding.stage import BULK_EVERY, Item

_STREAM_SHARE = 0.75  # of the queue; the rest is kept for unary calls, whose callers wait
_DEADLINE_SHARE = 0.8  # of a deadline that the foreseen wait may fill: a machine may slow down after a call was let in
_RECHECK_SECONDS = 0.2
_RETRY_SECONDS = 1.0  # when nothing better is known


@dataclass(frozen=True, slots=True)
class Limits:
    """What bounds the pipeline.

    Attributes:
        max_batch: most images in one run of the device.
        decode_threads: images decoded at once.
        queue_items, queue_bytes: most images, and most encoded bytes, under way.
        max_delay_seconds: how long an idle device waits for a batch to fill while more images are on their way.
    """

    max_batch: int = 8
    decode_threads: int = 1
    queue_items: int = 256
    queue_bytes: int = 256 * 2**20
    max_delay_seconds: float = 0.0


class Admission:
    """Counts what is under way. Thread-safe."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._room = threading.Condition()
        self._pace = Pace(limits.max_batch)
        self._items = self._bytes = self._urgent = 0

    @property
    def items(self) -> int:
        """Images under way."""
        return self._items

    def enter(self, items: int, size: int, deadline: Deadline) -> None:
        """Lets all images of a unary call in, or refuses at once.

        Raises:
            Overloaded: there is no room, or the queue is too long for the deadline.
        """
        with self._room:
            if not self._fits(items, size, 1.0):
                raise self._overloaded(
                    f"there is no room for {items} more", self._pace.seconds(0, self._limits.max_batch), "QUEUE_FULL"
                )
            wait, remaining = self._wait(items), deadline.remaining()
            # Whoever comes alone may try.
            if self._items and remaining is not None and wait > remaining * _DEADLINE_SHARE:
                raise self._overloaded(
                    f"the call may take {wait / _DEADLINE_SHARE:.2f} s, its deadline is in {remaining:.2f} s",
                    max(0.1, wait - remaining * _DEADLINE_SHARE),
                    "WAIT_TOO_LONG",
                )
            self._count(items, size, urgent=items)

    def enter_when_free(self, size: int, deadline: Deadline) -> None:
        """Lets one image of a stream in, as soon as there is room.

        Raises:
            DeadlineExceeded: the caller left or its time is up.
        """
        with self._room:
            while not self._fits(1, size, _STREAM_SHARE):
                deadline.check()
                self._room.wait(_RECHECK_SECONDS)
            self._count(1, size, urgent=0)

    def resize(self, item: Item, size: int) -> None:
        """An image's size has become known."""
        with self._room:
            self._bytes += size - item.size
            item.size = size

    def leave(self, items: Iterable[Item]) -> None:
        """They are done, one way or another."""
        with self._room:
            for item in items:
                self._count(-1, -item.size, -item.urgent)
            self._room.notify_all()

    def note_batch(self, images: int, seconds: float) -> None:
        """The device has done a batch; `seconds` since the one before, or since its images came."""
        with self._room:
            self._pace.note(images, seconds)

    def _count(self, items: int, size: int, urgent: int) -> None:
        self._items += items
        self._bytes += size
        self._urgent += urgent

    def _overloaded(self, why: str, seconds: float, reason: str) -> Overloaded:
        return Overloaded(
            f"{self._items} images are under way, {why}",
            retry_after_seconds=seconds or _RETRY_SECONDS,
            reason=reason,
            fix="call again in a moment, give the call more time, or use EmbedStream, which waits",
        )

    def _fits(self, items: int, size: int, share: float) -> bool:
        if self._items == 0:
            return True  # one that is larger than the queue must still get through
        limits = self._limits
        return self._items + items <= limits.queue_items * share and self._bytes + size <= limits.queue_bytes * share

    def _wait(self, images: int) -> float:
        """Until a unary call of so many images would be done: behind the others, streams only have their share."""
        bulk = self._items - self._urgent
        share = (self._urgent + images) // (BULK_EVERY - 1) + self._limits.max_batch  # and the batch that runs now
        return self._pace.seconds(self._urgent + min(bulk, share), images)
