# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest of many scores: which columns of a score matrix may be among the best k of their row.

A full partition of all scores costs more than the matrix product of one query saves. The largest score of
every group of columns is enough to find a floor: the k-th largest group maximum is not above the k-th
largest score, and only the few groups that reach it have to be looked into.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GROUP = 64  # columns a group; more makes the maxima cheaper and the groups to look into larger
_MIN_GROUPS = 4  # groups wanted for each hit, else most of them would be looked into


@dataclass(frozen=True, slots=True)
class ScoreTable:
    """Room for the scores of Q queries, wide enough to be cut into groups.

    Attributes:
        scores: [Q, W] with W >= columns; what is beyond is -inf.
        columns: how many scores a query has.
        group: columns a group; group g holds the columns g, g + W / group, g + 2 W / group, ...
    """

    scores: NDArray[np.floating]
    columns: int
    group: int

    @classmethod
    def for_best(cls, queries: int, columns: int, k: int, dtype: type[np.floating] = np.float32) -> ScoreTable:
        """An empty table whose best k a query will be asked for."""
        group = max(1, min(GROUP, columns // (_MIN_GROUPS * k)))
        width = -(-columns // group) * group
        scores = np.empty((queries, width), dtype)
        scores[:, columns:] = -np.inf
        return cls(scores, columns, group)

    def best(self, k: int, slack: float) -> list[NDArray[np.int64]]:
        """For each query the columns, ascending, whose score is within `slack` of the k-th largest, or above.

        Columns of -inf are left out; so a query has fewer than k when fewer are there.
        """
        queries, width = self.scores.shape
        grouped = self.scores.reshape(queries, self.group, width // self.group)  # [Q, group, groups]
        if self.group == 1:
            return [_reaching(row, _kth(row, k) - slack) for row in self.scores]
        maxima = grouped.max(axis=1)  # [Q, groups]
        groups = maxima.shape[1]
        floors = np.partition(maxima, groups - k, axis=1)[:, groups - k] - slack  # [Q]
        out = []
        for row, tops, floor in zip(grouped, maxima, floors, strict=True):
            chosen = _reaching(tops, floor)
            inside = row[:, chosen]  # [group, chosen]
            deep, wide = np.nonzero((inside >= _kth(inside.ravel(), k) - slack) & (inside > -np.inf))
            columns = deep * groups + chosen[wide]
            columns.sort()
            out.append(columns)
        return out


def _reaching(scores: NDArray[np.floating], floor: float) -> NDArray[np.int64]:
    return np.flatnonzero((scores >= floor) & (scores > -np.inf))


def _kth(scores: NDArray[np.floating], k: int) -> float:
    """The k-th largest; -inf when there are fewer."""
    if len(scores) < k:
        return -np.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])
