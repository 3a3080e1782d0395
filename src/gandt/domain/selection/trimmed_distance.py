# SPDX-License-Identifier: GPL-3.0-or-later
"""Trimmed mean cosine distance from pool images to each label, in blocks, exact where it matters.

The bulk runs through one matrix product a block, in float32 where the labeled side is large. Rows on which two labels
nearly tie are computed again in float64, and what nearly ties even there pair by pair, so that no count depends on
block size, threads or number format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.vectors import bad_rows, squared_lengths

TRIM = 0.1
EXACT_NUMBERS = 65_536  # labeled numbers (images * dim) up to which float64 throughout costs nothing that matters
_TIE = {np.dtype(np.float32): 4e-6, np.dtype(np.float64): 1e-10}  # far above the error of a mean in that format


@dataclass(frozen=True)
class LabelColumns:
    """The labeled side.

    Attributes:
        names: C labels, ascending.
        columns: for each label the rows of `vectors` that count for it; a row may count twice.
        vectors: f64[L, D] labeled vectors as they are.
    """

    names: tuple[str, ...]
    columns: tuple[NDArray[np.int64], ...]
    vectors: NDArray[np.float64]


def label_columns(
    ids: Sequence[str], labels: Sequence[Sequence[str]], row_ids: Sequence[str], vectors: NDArray[np.floating]
) -> LabelColumns:
    """Joins labels to vectors by id, as the original does: every mention of an id brings every vector of that id.

    Args:
        ids: labeled images; an image may be mentioned several times.
        labels: labels of each mention.
        row_ids: id of each row of `vectors`; an id may have several rows.
        vectors: float[L, D].
    """
    rows: dict[str, list[int]] = {}
    for row, image in enumerate(row_ids):
        rows.setdefault(image, []).append(row)
    names = tuple(sorted({label for some in labels for label in some}))
    columns = tuple(
        np.array([r for image, some in zip(ids, labels, strict=True) if name in some for r in rows.get(image, ())], int)
        for name in names
    )
    return LabelColumns(names, columns, np.asarray(vectors, np.float64))


class TrimmedDistances:
    """Distances of any number of blocks to one labeled side.

    Args:
        labeled: the labeled side.
        other: label whose near ties are computed again; "" when there is none.
        exact: float64 throughout; by default as the labeled side's size suggests.
    """

    def __init__(self, labeled: LabelColumns, other: str, *, exact: bool = False) -> None:
        self._labeled = labeled
        self._other = labeled.names.index(other) if other in labeled.names else -1
        small = labeled.vectors.size <= EXACT_NUMBERS
        self._dtype: np.dtype[np.floating] = np.dtype(np.float64 if exact or small else np.float32)
        self._bad = bad_rows(labeled.vectors)
        self._norms = np.ones(len(self._bad))  # [L]
        self._units = np.zeros(labeled.vectors.shape, self._dtype)  # [L, D]
        for row in np.flatnonzero(~self._bad).tolist():  # row by row: a large labeled side is not copied
            self._norms[row] = np.linalg.norm(labeled.vectors[row : row + 1], axis=1)[0]
            self._units[row] = labeled.vectors[row] / self._norms[row]

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """Number format that distances are exact to; rows near a tie are computed in float64 all the same."""
        return self._dtype

    @property
    def names(self) -> tuple[str, ...]:
        """Labels of the columns."""
        return self._labeled.names

    def of(self, block: NDArray[np.floating]) -> NDArray[np.float64]:
        """f64[n, C] trimmed mean distances in [0, 2] of float[n, D]; NaN where a vector on either side is unusable.

        Source:
            scipy.stats.trim_mean over scipy.spatial.distance.cdist(..., "cosine"); the original's filter_by_similarity.
        """
        means = self._means(self._fast(block))
        if self._other >= 0 and len(block):
            near = self._near_ties(means, self._dtype)
            if self._dtype != np.float64 and len(near):
                means[near] = self._means(self._in_float64(block[near]))
                near = near[self._near_ties(means[near], np.dtype(np.float64))]
            for start in range(0, len(near), 64):
                rows = near[start : start + 64]
                means[rows] = self._means(self._in_float64(block[rows], pairwise=True))
        return means

    def _near_ties(self, means: NDArray[np.float64], dtype: np.dtype[np.floating]) -> NDArray[np.int64]:
        """Rows of f64[n, C] on which a label is no farther from other than numbers of that format can tell."""
        gaps = np.abs(means - means[:, [self._other]])  # [n, C]
        gaps[:, self._other] = np.inf
        return np.flatnonzero((gaps < _TIE[dtype]).any(axis=1))

    def _fast(self, block: NDArray[np.floating]) -> NDArray[np.floating]:
        squares = squared_lengths(block)  # [n]
        bad = ~np.isfinite(squares) | (squares == 0)
        rows = np.asarray(block, self._dtype)
        if bad.any():
            rows = np.where(bad[:, None], 0, rows)
            squares[bad] = 1.0
        distances = rows @ self._units.T  # [n, L]
        distances *= (-1.0 / np.sqrt(squares))[:, None].astype(self._dtype)
        distances += 1
        distances[bad] = np.nan
        distances[:, self._bad] = np.nan
        return np.asarray(distances)

    def _in_float64(self, block: NDArray[np.floating], *, pairwise: bool = False) -> NDArray[np.float64]:
        """f64[n, L] distances; pairwise each number depends on its two vectors alone, so that equal vectors tie."""
        rows = np.array(block, np.float64)
        bad = bad_rows(rows)
        rows[bad] = 0.0
        with np.errstate(over="ignore", invalid="ignore"):  # what bad labeled vectors give becomes NaN below
            labeled = self._labeled.vectors
            products = np.einsum("nd,ld->nl", rows, labeled) if pairwise else rows @ labeled.T
        norms = np.sqrt(np.einsum("nd,nd->n", rows, rows))
        norms[bad] = 1.0
        distances = 1.0 - products / norms[:, None] / self._norms
        distances[bad] = np.nan
        distances[:, self._bad] = np.nan
        return np.asarray(distances)

    def _means(self, distances: NDArray[np.floating]) -> NDArray[np.float64]:
        out = np.full((len(distances), len(self.names)), np.nan)
        for number, columns in enumerate(self._labeled.columns):
            if len(columns):
                out[:, number] = trimmed_mean(distances[:, columns])
        return out


def trimmed_mean(values: NDArray[np.floating], trim: float = TRIM) -> NDArray[np.float64]:
    """f64[N] mean of each row of float[N, L] without int(trim * L) values at each end; NaN where the row has one.

    >>> trimmed_mean(np.array([[0.0, 1, 1, 1, 1, 1, 1, 1, 1, 99]])).tolist()
    [1.0]
    """
    count = values.shape[1]
    cut = int(trim * count)
    if not cut:
        return np.asarray(values.mean(axis=1, dtype=np.float64))
    kept = np.sort(values, axis=1)  # a vectorized sort of so few is several times faster than a partition
    means = np.asarray(kept[:, cut : count - cut].mean(axis=1, dtype=np.float64))
    means[np.isnan(kept[:, -1])] = np.nan  # NaN sorts last: the cut must not hide it
    return means
