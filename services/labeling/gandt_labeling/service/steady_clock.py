# SPDX-License-Identifier: GPL-3.0-or-later
"""Epoch seconds that never jump while the process runs."""

from __future__ import annotations

from gandt.ports.clock import Clock


class SteadyClock:
    """The wall time at the start plus the monotonic time since.

    Leases and availability are stored as such times: a stepped wall clock neither expires nor prolongs them, and
    after a restart they are checked against the wall clock of that moment.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.now().timestamp()
        self._start = clock.monotonic()

    def now(self) -> float:
        """Epoch seconds, UTC."""
        return self._wall + (self._clock.monotonic() - self._start)
