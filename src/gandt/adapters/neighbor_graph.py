# SPDX-License-Identifier: GPL-3.0-or-later
"""Pairs that may be near-duplicates, from a graph of nearest neighbors: for collections too large to compare all pairs.

faiss parts the rows into about sqrt(N) cells by k-means and looks for each row's 32 nearest in the 8 nearest cells.
The index holds half precision numbers (half of the vectors' memory, for the time of the search), so scores near the
threshold are left to be computed anew.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gandt.domain.near_duplicates import Candidates, MatrixView
from gandt.domain.progress import Progress

NEIGHBORS = 32
CELLS_SEARCHED = 8
ROWS_A_CELL = 64  # sampled for k-means
ROUNDS = 8  # of k-means
SLACK = 2e-3  # error of a product of half precision unit vectors
BATCH_ROWS = 4096
PAIRS_A_REPORT = 1 << 16


def neighbor_pairs(view: MatrixView, threshold: float) -> Iterator[Candidates]:
    """Candidates of a view among each row's 32 nearest, each pair once; they come when all rows are searched."""
    import faiss

    rows = len(view.ids)
    if not rows:
        return
    none = np.zeros(0, np.int64)
    dim = view.take(np.zeros(1, np.int64)).shape[1]
    cells = max(1, int(np.sqrt(rows)))
    sample = np.linspace(0, rows - 1, min(rows, cells * ROWS_A_CELL)).astype(np.int64)
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.niter = ROUNDS
    index.cp.min_points_per_centroid = 1  # with few rows it would warn on stderr
    index.nprobe = CELLS_SEARCHED
    starts = range(0, rows, BATCH_ROWS)
    total = 2 * len(starts) + 1
    yield Candidates(Progress("graph", 0, total), none, none, none.astype(np.bool_))
    index.train(_units(view, sample))
    for done, start in enumerate(starts, 2):
        index.add(_units(view, np.arange(start, min(start + BATCH_ROWS, rows))))
        yield Candidates(Progress("graph", done, total), none, none, none.astype(np.bool_))
    near: dict[bool, list[NDArray[np.int64]]] = {True: [none], False: [none]}  # pairs as first * rows + second
    for done, start in enumerate(starts, len(starts) + 2):
        here = np.arange(start, min(start + BATCH_ROWS, rows))
        scores, found = index.search(_units(view, here), NEIGHBORS + 1)  # [n, 33], itself among them
        close = (found >= 0) & (found != here[:, None]) & (scores >= threshold - SLACK)
        first, second = np.broadcast_to(here[:, None], found.shape)[close], found[close]
        keys = np.minimum(first, second) * rows + np.maximum(first, second)
        sure = scores[close] >= threshold + SLACK
        near[True].append(keys[sure])
        near[False].append(keys[~sure])
        yield Candidates(Progress("graph", done, total), none, none, none.astype(np.bool_))
    certain = np.unique(np.concatenate(near[True]))
    doubtful = np.setdiff1d(np.concatenate(near[False]), certain)
    for keys, is_sure in ((certain, True), (doubtful, False)):
        for start in range(0, len(keys), PAIRS_A_REPORT):
            first, second = np.divmod(keys[start : start + PAIRS_A_REPORT], rows)
            yield Candidates(Progress("graph", total, total), first, second, np.full(len(first), is_sure))


def _units(view: MatrixView, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    block = view.take(rows)
    out: NDArray[np.float32] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return np.ascontiguousarray(out)
