# SPDX-License-Identifier: GPL-3.0-or-later
"""Counting what happens, for Prometheus and for tests.

A service declares its metrics once, as `Metric` values, and reports by name. Labels are
bounded sets (a state, a kind, a stage): never an image id, a worker id or a path.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Kind = Literal["counter", "gauge", "histogram"]

SECONDS_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds for durations; 0.25 s is one of them because the latency objective of Search is."""


@dataclass(frozen=True)
class Metric:
    """One metric of a service.

    Args:
        name: full name with unit, `gandt_<service>_<what>_<unit>`; counters end in `_total`.
        kind: counter (only grows), gauge (a level) or histogram (a distribution).
        help: one sentence with the unit.
        labels: names of its labels; every report gives exactly these.
        buckets: upper bounds of a histogram's buckets, ascending.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = SECONDS_BUCKETS


class Meter(Protocol):
    """Where a service reports its metrics. Thread-safe; never raises for a declared metric."""

    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Adds to a counter; `amount` is not negative."""
        ...

    def set_level(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a gauge."""
        ...

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Adds one value to a histogram."""
        ...
