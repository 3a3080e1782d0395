# SPDX-License-Identifier: GPL-3.0-or-later
"""A clock that tests move by hand, and a meter that remembers what it was told."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import UTC, datetime, timedelta

from gandt.domain.errors import DeadlineExceeded

Labels = tuple[tuple[str, str], ...]


class ManualClock:
    """Stands still until somebody advances it; `sleep` advances it at once.

    Args:
        start: the first moment, aware.
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()

    def now(self) -> datetime:
        """The start plus everything that was advanced."""
        return self._start + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Seconds advanced since the start."""
        with self._lock:
            return self._elapsed

    def sleep(self, seconds: float) -> None:
        """Advances instead of waiting."""
        if seconds > 0:
            self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Moves time forward."""
        with self._lock:
            self._elapsed += seconds


class ManualDeadline:
    """A deadline on a clock, for tests of use cases.

    Args:
        clock: whose time counts.
        seconds: the limit from now on; None for no limit.
    """

    def __init__(self, clock: ManualClock, seconds: float | None = None) -> None:
        self._clock = clock
        self._ends_at = None if seconds is None else clock.monotonic() + seconds
        self._cancelled = False

    def cancel(self) -> None:
        """Acts as the caller going away."""
        self._cancelled = True

    def remaining(self) -> float | None:
        """Seconds left on the clock."""
        return None if self._ends_at is None else max(0.0, self._ends_at - self._clock.monotonic())

    def check(self) -> None:
        """Raises DeadlineExceeded when the time is up or after `cancel`."""
        if self._cancelled or self.remaining() == 0.0:
            raise DeadlineExceeded("the call has no time left")


class MemoryMeter:
    """Keeps every report; read it with `value` and `observations`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[tuple[str, Labels], float] = defaultdict(float)
        self._observed: dict[tuple[str, Labels], list[float]] = defaultdict(list)

    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Adds to a counter."""
        with self._lock:
            self._values[name, _key(labels)] += amount

    def set_level(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge."""
        with self._lock:
            self._values[name, _key(labels)] = value

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Adds one value to a histogram."""
        with self._lock:
            self._observed[name, _key(labels)].append(value)

    def value(self, name: str, /, **labels: str) -> float:
        """Counter or gauge as it stands; 0 when never reported."""
        with self._lock:
            return self._values.get((name, _key(labels)), 0.0)

    def observations(self, name: str, /, **labels: str) -> list[float]:
        """Everything a histogram was told, in order."""
        with self._lock:
            return list(self._observed.get((name, _key(labels)), ()))

    def names(self) -> set[str]:
        """Names of everything reported so far."""
        with self._lock:
            return {name for name, _ in [*self._values, *self._observed]}


def _key(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
