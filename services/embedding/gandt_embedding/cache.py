# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors by content hash: those that are known, in memory and perhaps on disk, and those being computed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.ports.kept_vectors import KeptVectors
from gandt_embedding.stage import Item

_ROW_OVERHEAD = 300  # bytes of key, array header and links; measured, rounded up


class VectorCache:
    """Vectors of one model; the least recently used are dropped first. Thread-safe.

    Args:
        max_bytes: memory that it may take; 0 keeps nothing.
        kept: what outlives the process; None for nothing.
    """

    def __init__(self, max_bytes: int, kept: KeptVectors | None = None) -> None:
        self._max_bytes, self._kept = max_bytes, kept
        self._bytes = 0
        self._rows: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """The vector, read-only, or None."""
        with self._lock:
            row = self._rows.get(key)
            if row is not None:
                self._rows.move_to_end(key)
                return row
        row = self._kept.get(key) if self._kept is not None else None
        if row is not None:
            self._remember(key, row)
        return row

    def put(self, rows: Sequence[tuple[bytes, NDArray[np.float32]]]) -> None:
        """Keeps vectors that nobody will change."""
        for key, row in rows:
            self._remember(key, row)
        if self._kept is not None and rows:
            self._kept.put(rows)

    def close(self) -> None:
        """Frees what outlives the process."""
        if self._kept is not None:
            self._kept.close()

    def _remember(self, key: bytes, row: NDArray[np.float32]) -> None:
        size = row.nbytes + _ROW_OVERHEAD
        if size > self._max_bytes:
            return
        with self._lock:
            if key not in self._rows:
                self._bytes += size
            self._rows[key] = row
            self._rows.move_to_end(key)
            while self._bytes > self._max_bytes:
                _, dropped = self._rows.popitem(last=False)
                self._bytes -= dropped.nbytes + _ROW_OVERHEAD

    def __len__(self) -> int:
        return len(self._rows)


class Flights:
    """Single flight: of images with the same content under way, one is computed and the others follow it.

    What follows has been admitted, so admission bounds this too. Thread-safe.
    """

    def __init__(self) -> None:
        self._leaders: dict[bytes, Item] = {}
        self._lock = threading.Lock()

    def follow(self, item: Item) -> bool:
        """True when the item now waits for another one; else it must be computed.

        An urgent one never waits behind a stream's.
        """
        with self._lock:
            leader = self._leaders.setdefault(item.key, item)
            if leader is item or (item.urgent and not leader.urgent):
                return False
            leader.followers.append(item)
            return True

    def end(self, item: Item) -> list[Item]:
        """The item has its result (and is in the cache): who followed it."""
        with self._lock:
            if self._leaders.get(item.key) is item:
                del self._leaders[item.key]
            followers, item.followers = item.followers, []
            return followers
