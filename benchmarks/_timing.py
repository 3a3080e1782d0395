# SPDX-License-Identifier: GPL-3.0-or-later
"""Times ways to do the same thing in one run, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def interleaved(
    ways: Mapping[str, Callable[[int], object]], calls: int, turn: int = 1, warm_up: int = 0
) -> dict[str, float]:
    """Median seconds of each way.

    Args:
        ways: each is called with the number of the call.
        calls: timed calls of each way.
        turn: calls of a way before it is the next one's turn.
        warm_up: calls of each way before those.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        for number in range(warm_up):
            way(number)
    for start in range(0, calls, turn):
        for name, way in ways.items():
            for number in range(start, min(start + turn, calls)):
                began = time.perf_counter()
                way(number)
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in seconds.items()}
