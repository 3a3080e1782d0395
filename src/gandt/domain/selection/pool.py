# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool as strategies see it: ids in ascending order, vectors in blocks or by position.

Rows may lie anywhere (in memory, in a temporary file) and in any order; positions always refer to ids in ascending
order, so that nothing a strategy computes depends on how the vectors arrived.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.vectors import bad_rows

Positions = NDArray[np.int64]
Matrix = NDArray[np.float64]

LEAST_WIDTH = 512  # models look at up to so many kernel columns a row, however short the vectors are
BLOCK_NUMBERS = 2**19  # numbers in a block: 4 MiB of float64; several such arrays are in use at once


class Rows(Protocol):
    """Vectors kept for one request, in the order in which they came."""

    def __len__(self) -> int:
        """Rows kept."""
        ...

    @property
    def dim(self) -> int:
        """Numbers in a row; 0 before the first."""
        ...

    def append(self, matrix: NDArray[np.floating]) -> None:
        """Adds float[N, D]."""
        ...

    def blocks(self, rows: int) -> Iterator[NDArray[np.floating]]:
        """All rows in order, at most `rows` at a time; may be asked for again."""
        ...

    def take(self, rows: Positions) -> NDArray[np.floating]:
        """Those rows, in the order asked for."""
        ...


class MemoryRows:
    """Rows in memory, in the number format in which they came."""

    def __init__(self) -> None:
        self._parts: list[NDArray[np.floating]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def dim(self) -> int:
        """Numbers in a row; 0 before the first."""
        return int(self._parts[0].shape[1]) if self._parts else 0

    def append(self, matrix: NDArray[np.floating]) -> None:
        """Adds float[N, D]."""
        self._parts.append(matrix)
        self._count += len(matrix)

    def blocks(self, rows: int) -> Iterator[NDArray[np.floating]]:
        """All rows in order, at most `rows` at a time."""
        matrix = self._joined()
        for start in range(0, len(matrix), rows):
            yield matrix[start : start + rows]

    def take(self, rows: Positions) -> NDArray[np.floating]:
        """Those rows, in the order asked for."""
        return self._joined()[rows]

    def _joined(self) -> NDArray[np.floating]:
        if len(self._parts) > 1:
            self._parts = [np.concatenate(self._parts)]
        return self._parts[0] if self._parts else np.zeros((0, 0), np.float32)


class RowsSubset:
    """Some rows of another store, in its order, without copying.

    Args:
        rows: the store.
        keep: bool[len(rows)], the rows that are seen.
    """

    def __init__(self, rows: Rows, keep: NDArray[np.bool_]) -> None:
        self._rows = rows
        self._keep = keep
        self._kept = np.flatnonzero(keep)

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def dim(self) -> int:
        """Numbers in a row."""
        return self._rows.dim

    def append(self, matrix: NDArray[np.floating]) -> None:
        """A view takes no rows. Always raises TypeError."""
        raise TypeError(f"{len(matrix)} rows cannot be added to a view")

    def blocks(self, rows: int) -> Iterator[NDArray[np.floating]]:
        """The kept rows in order, at most `rows` at a time."""
        start = 0
        for block in self._rows.blocks(rows):
            keep = self._keep[start : start + len(block)]
            yield block if keep.all() else block[keep]
            start += len(block)

    def take(self, rows: Positions) -> NDArray[np.floating]:
        """Those of the kept rows, in the order asked for."""
        return self._rows.take(self._kept[rows])


class Pool:
    """Unlabeled images with their vectors.

    Args:
        ids: N image ids, in the order of `rows`.
        rows: their vectors.
        block_rows: rows a block; 0 chooses by the vectors' size. Results do not depend on it.
    Raises:
        InvalidInput: an id occurs twice.
    """

    def __init__(self, ids: Sequence[str], rows: Rows, block_rows: int = 0) -> None:
        self._rows = rows
        self._block_rows = block_rows or max(64, BLOCK_NUMBERS // max(rows.dim, LEAST_WIDTH))
        names = np.empty(len(ids), object)  # an eighth of the memory of a list of row numbers to sort
        names[:] = ids
        self._row_of = np.argsort(names, kind="stable").astype(np.int64)  # position -> row
        self.ids: list[str] = names[self._row_of].tolist()
        self._position_of = np.empty(len(ids), np.int64)  # row -> position
        self._position_of[self._row_of] = np.arange(len(ids))
        for before, after in pairwise(self.ids):
            if before == after:
                raise InvalidInput(
                    f"image {after!r} has more than one vector", field="vectors", reason="REPEATED_IMAGE"
                )
        self.usable = np.ones(len(ids), bool)  # [N] by position
        start = 0
        for block in rows.blocks(self._block_rows):
            self.usable[self._position_of[start : start + len(block)]] = ~bad_rows(block)
            start += len(block)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self._rows.dim

    @property
    def positions_by_row(self) -> Positions:
        """i64[N] position of each row, in the order in which the vectors came."""
        return self._position_of

    def blocks(self) -> Iterator[tuple[Positions, Matrix]]:
        """Positions and unit vectors f64[n, D], block by block in the order in which the vectors came."""
        start = 0
        for block in self._rows.blocks(self._block_rows):
            yield self._position_of[start : start + len(block)], unit_rows(block)
            start += len(block)

    def take(self, positions: Positions) -> Matrix:
        """f64[k, D] unit vectors of those positions."""
        if not len(positions):
            return np.zeros((0, self.dim))
        return unit_rows(self._rows.take(self._row_of[positions]))

    def sample(self, count: int, rng: np.random.Generator) -> Positions:
        """At most `count` usable positions, drawn uniformly, ascending."""
        usable = np.flatnonzero(self.usable)
        return usable if len(usable) <= count else np.sort(rng.choice(usable, count, replace=False))


def unit_rows(matrix: NDArray[np.floating]) -> Matrix:
    """f64[N, D]: rows of unit length; rows that cannot be compared (zero, NaN, infinite) become zero."""
    out = np.array(matrix, np.float64)
    bad = bad_rows(out)
    out[bad] = 0.0
    norms = np.sqrt(np.einsum("ij,ij->i", out, out))  # [N]
    norms[bad] = 1.0
    out /= norms[:, None]
    return out
