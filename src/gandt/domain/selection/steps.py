# SPDX-License-Identifier: GPL-3.0-or-later
"""Long computations as generators: they yield progress and return their result.

Selection stays a pure function, and whoever runs it decides what happens between two steps: report progress, check
the deadline, or stop.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

from gandt.domain.progress import Progress

T = TypeVar("T")

Steps = Generator[Progress, None, T]
"""Yields Progress, returns a T."""


def finish(steps: Steps[T]) -> T:
    """Runs to the end and returns the result, ignoring progress."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
