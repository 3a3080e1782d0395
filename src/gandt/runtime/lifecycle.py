# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a service stands between start and stop, and how many calls it is answering."""

from __future__ import annotations

import enum


class State(enum.Enum):
    """Warming up, serving, or finishing what runs."""

    WARMING = "warming up"
    SERVING = "serving"
    DRAINING = "draining"


class Lifecycle:
    """Kept by one server; only its event loop touches it."""

    def __init__(self) -> None:
        self.state = State.WARMING
        self._running = 0

    @property
    def running(self) -> int:
        """Calls being answered, health and reflection left out."""
        return self._running

    def enter(self) -> None:
        """A call begins."""
        self._running += 1

    def leave(self) -> None:
        """A call ends."""
        self._running -= 1
