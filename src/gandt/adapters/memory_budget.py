# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory that readers of a store share, so that many at once take no more than one may."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gandt.domain.errors import Overloaded, WrongState


class MemoryBudget:
    """Bytes of vectors in memory at once, over all collections and callers. Thread-safe.

    Args:
        limit: most bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._lock = threading.RLock()  # a release may come from the garbage collector, in any thread

    def take(self, items: int, dim: int, name: str) -> Callable[[], None]:
        """Take room for the vectors of a collection.

        Args:
            items, dim: vectors, and float32 numbers of one.
            name: of the collection, for the error.
        Returns:
            What gives the room back; a second call does nothing.
        Raises:
            WrongState: more than the limit (RESIDENT_MEMORY_FULL).
            Overloaded: others hold the room now (RESIDENT_MEMORY_BUSY).
        """
        needed = 4 * items * dim
        if needed > self._limit:
            raise WrongState(
                f"{items:,} vectors of collection {name} do not fit into max_resident_bytes {self._limit:,}",
                kind="collection",
                id=name,
                state="too large",
                reason="RESIDENT_MEMORY_FULL",
                fix="narrow it by a filter, raise max_resident_bytes, or embed with a projection to fewer dimensions",
            )
        with self._lock:
            if self._taken + needed > self._limit:
                raise Overloaded(
                    f"other calls hold {self._taken:,} of max_resident_bytes {self._limit:,}; {items:,} vectors of "
                    f"collection {name} do not fit beside them",
                    retry_after_seconds=1.0,
                    reason="RESIDENT_MEMORY_BUSY",
                    fix="retry later, or raise max_resident_bytes",
                )
            self._taken += needed
        held = [needed]

        def give_back() -> None:
            with self._lock:
                self._taken -= held.pop() if held else 0

        return give_back
