# SPDX-License-Identifier: GPL-3.0-or-later
"""How far workers agree with each other: raw share of pairs, Krippendorff's alpha, Fleiss' kappa, all from counts."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.records import Agreement
from gandt.domain.aggregation.votes import SetVotes, Votes

DENSE = 4  # a table with up to this many cells a vote is faster to count in than votes are to sort


def measure_agreement(votes: Votes | SetVotes) -> Agreement:
    """The three measures over items with at least two votes; a set of labels is one value.

    Memory and time are linear in the votes: pairs are counted, never listed.

    Source:
        K. Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability" (nominal); J. L. Fleiss 1971.
    """
    value = votes.label.astype(np.int64) if isinstance(votes, Votes) else _set_numbers(votes)
    sizes = votes.sizes()
    if not len(value):
        return Agreement(np.nan, np.nan, np.nan, 0, 0)
    values = int(value.max()) + 1
    cells, found = _occurring(votes.item.astype(np.int64) * values + value, votes.items * values)
    item, kind, counts = cells // values, cells % values, found.astype(np.float64)
    many = sizes[item] > 1
    item, kind, counts = item[many], kind[many], counts[many]
    total = float(counts.sum())
    if total == 0:
        return Agreement(np.nan, np.nan, np.nan, 0, 0)
    of_item = sizes[item].astype(np.float64)
    pairs = float((sizes * (sizes - 1.0)).sum())
    raw = float((counts * (counts - 1)).sum()) / pairs
    observed = 1 - float((counts * (counts - 1) / (of_item - 1)).sum()) / total
    marginal = np.bincount(kind, weights=counts)
    expected = 1 - float((marginal * (marginal - 1)).sum()) / (total * (total - 1))
    alpha = 1 - observed / expected if expected > 0 else np.nan
    return Agreement(raw, alpha, _fleiss(sizes, item, kind, counts), int((sizes > 1).sum()), int(total))


def _occurring(cells: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The cells that occur, ascending, and how often; counted in place of sorted where the table of counts is small."""
    if size > DENSE * len(cells):
        return np.unique(cells, return_counts=True)
    counts = np.bincount(cells, minlength=size)
    occurring = np.flatnonzero(counts)
    return occurring, counts[occurring]


def _fleiss(
    sizes: NDArray[np.int64], item: NDArray[np.int64], kind: NDArray[np.int64], counts: NDArray[np.float64]
) -> float:
    """Fleiss' kappa over the items with the most common number of votes (the larger of two that are as common)."""
    common = np.bincount(sizes[sizes > 1])
    usual = len(common) - 1 - int(np.argmax(common[::-1]))
    here = sizes[item] == usual
    counts, kind = counts[here], kind[here]
    total = float(counts.sum())
    observed = float((counts * (counts - 1)).sum()) / (total * (usual - 1))
    expected = float(((np.bincount(kind, weights=counts) / total) ** 2).sum())
    return (observed - expected) / (1 - expected) if expected < 1 else float("nan")


def _set_numbers(votes: SetVotes) -> NDArray[np.int64]:
    """i64[V]: equal sets get equal numbers."""
    known: dict[bytes, int] = {}
    bounds = votes.set_ptr.tolist()
    raw = np.ascontiguousarray(votes.set_label, np.int32)
    numbers = [known.setdefault(raw[start:stop].tobytes(), len(known)) for start, stop in pairwise(bounds)]
    return np.array(numbers, np.int64)
