# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the vector of each image lies among the parts of an output: 24 bytes an image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_ROW_BITS = 32


class PartIndex:
    """Rows by key. What was added is found after `settle`; of several rows of one key the last counts."""

    def __init__(self) -> None:
        self._keys = np.zeros(0, np.uint64)
        self._versions = np.zeros(0, np.uint64)
        self._places = np.zeros(0, np.uint64)  # part and row
        self._new: list[tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]] = []
        self._sizes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, part: int, keys: NDArray[np.uint64], versions: NDArray[np.uint64]) -> None:
        """The rows of a part, u64[N] each; parts are added from the oldest to the newest."""
        self._new.append((keys, versions, np.arange(len(keys), dtype=np.uint64) + np.uint64(part << _ROW_BITS)))
        self._sizes[part] = len(keys)

    def settle(self) -> None:
        """Sorts in what was added."""
        old = (self._keys, self._versions, self._places)
        keys, versions, places = (np.concatenate(columns) for columns in zip(old, *self._new, strict=True))
        self._new = []
        order = np.lexsort((places, keys))
        keys = keys[order]
        last = np.append(keys[1:] != keys[:-1], True) if len(keys) else np.zeros(0, bool)
        self._keys, self._versions, self._places = keys[last], versions[order][last], places[order][last]

    def place(self, key: int, version: int) -> tuple[int, int] | None:
        """Part and row of that version; None when there is none."""
        wanted = np.uint64(key)
        at = int(np.searchsorted(self._keys, wanted))
        if at == len(self._keys) or self._keys[at] != wanted or self._versions[at] != np.uint64(version):
            return None
        place = int(self._places[at])
        return place >> _ROW_BITS, place & ((1 << _ROW_BITS) - 1)

    def live(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Each part with bool[N]: which of its rows count. Parts that are added meanwhile are not among them."""
        places = np.sort(self._places)
        for part, size in sorted(self._sizes.items()):
            first, end = np.searchsorted(places, [np.uint64(each << _ROW_BITS) for each in (part, part + 1)])
            rows = np.zeros(size, bool)
            rows[(places[first:end] - np.uint64(part << _ROW_BITS)).astype(np.int64)] = True
            yield part, rows
