# SPDX-License-Identifier: GPL-3.0-or-later
"""Time, and how much of it a call has left.

Use cases take a `Clock` and a `Deadline` as arguments, so tests move time by hand and a
caller who went away stops work that nobody waits for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The time, as use cases may ask for it."""

    def now(self) -> datetime:
        """The wall clock, aware and in UTC; for records."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Waits that many seconds (none when negative)."""
        ...


class Deadline(Protocol):
    """How long the caller of a use case still waits."""

    def remaining(self) -> float | None:
        """Seconds left, never negative; None without a limit."""
        ...

    def check(self) -> None:
        """Call it before each expensive step and once per item of a long loop.

        Raises:
            DeadlineExceeded: the time is up, or the caller went away.
        """
        ...


class _NoDeadline:
    def remaining(self) -> float | None:
        return None

    def check(self) -> None:
        return None


NO_DEADLINE: Deadline = _NoDeadline()
"""For callers that wait as long as it takes."""
