# SPDX-License-Identifier: GPL-3.0-or-later
"""Near-duplicates: all pairs above a cosine threshold by blocked products, and the groups that they connect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.search import unit_rows
from gandt.domain.search_records import (
    DuplicateGroup,
    DuplicateMember,
    DuplicateMode,
    DuplicatePair,
    DuplicateReport,
)
from gandt.domain.vectors import VectorSet

DEFAULT_THRESHOLD = 0.95
BLOCK_ROWS = 1024
STAGE = "comparing"
_CHUNK = 8192  # pairs scored again at once
_GROUPS_A_REPORT = 1000
_NONE = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class MatrixView:
    """Vectors to compare, without saying where they lie.

    Attributes:
        ids: N ids in ascending order.
        take: copies of some rows, f32[R, D], none of length zero.
        generation: of the collection they come from; 0 for a file.
    """

    ids: Sequence[str]
    take: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    generation: int = 0


def matrix_view(vectors: VectorSet) -> MatrixView:
    """A set in memory, to be compared; the rows are brought into id order without copying the matrix."""
    order = np.array(sorted(range(len(vectors)), key=vectors.ids.__getitem__), np.int64)
    ids = [vectors.ids[row] for row in order]
    return MatrixView(ids, lambda rows: np.asarray(vectors.matrix[order[rows]], np.float32))


def check_threshold(threshold: float) -> float:
    """The threshold, or InvalidInput unless it lies in (0, 1]."""
    if not 0 < threshold <= 1:
        raise InvalidInput(
            f"threshold is {threshold}, it must lie above 0 and at most at 1", field="threshold", reason="BAD_THRESHOLD"
        )
    return threshold


def find_near_duplicates(
    view: MatrixView,
    threshold: float = DEFAULT_THRESHOLD,
    mode: DuplicateMode = "groups",
    block_rows: int = BLOCK_ROWS,
) -> Iterator[DuplicateReport]:
    """Compares every pair and reports as it goes.

    Args:
        threshold: smallest cosine similarity of a pair, in (0, 1].
        mode: `pairs` yields each pair once, as found; `groups` yields connected groups at the end, single
            items too, ordered by their smallest id.
        block_rows: rows of a block; blocks are compared two at a time.
    Raises:
        InvalidInput: the threshold is out of range.
    """
    check_threshold(threshold)
    if mode == "pairs":
        yield from _find_pairs(view, threshold, block_rows)
    else:
        yield from _find_groups(view, threshold, block_rows)


def _find_pairs(view: MatrixView, threshold: float, block_rows: int) -> Iterator[DuplicateReport]:
    for progress, first, second, _ in _compared(view, threshold, block_rows):
        pairs: list[DuplicatePair] = []
        for start in range(0, len(first), _CHUNK):
            left, right = first[start : start + _CHUNK], second[start : start + _CHUNK]
            scores = _exact(view, left, right)
            pairs += [
                DuplicatePair(view.ids[i], view.ids[j], float(score))
                for i, j, score in zip(left.tolist(), right.tolist(), scores, strict=True)
                if score >= threshold
            ]
        yield DuplicateReport(progress, tuple(pairs))


def _find_groups(view: MatrixView, threshold: float, block_rows: int) -> Iterator[DuplicateReport]:
    labels = np.arange(len(view.ids))  # [N] the smallest row of each row's component so far
    progress = Progress(STAGE)

    def joined(upper: slice, lower: slice) -> bool:
        """Whether all rows of two blocks are in one group already, so that comparing them tells nothing."""
        both = np.concatenate([labels[upper], labels[lower]])
        return bool((both == both[0]).all())

    for progress, first, second, sure in _compared(view, threshold, block_rows, joined):
        apart = labels[first] != labels[second]
        first, second, sure = first[apart], second[apart], sure[apart]
        labels = _joined(labels, first[sure], second[sure])
        # Only pairs within the rounding error of the threshold need the float64 score.
        first, second = first[~sure], second[~sure]
        for start in range(0, len(first), _CHUNK):
            left, right = first[start : start + _CHUNK], second[start : start + _CHUNK]
            near = _exact(view, left, right) >= threshold
            labels = _joined(labels, left[near], right[near])
        yield DuplicateReport(progress)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    groups = [_group(view, rows) for rows in np.split(order, starts[1:])] if len(order) else []
    for start in range(0, max(1, len(groups)), _GROUPS_A_REPORT):
        yield DuplicateReport(progress, groups=tuple(groups[start : start + _GROUPS_A_REPORT]))


def _compared(
    view: MatrixView,
    threshold: float,
    block_rows: int,
    needless: Callable[[slice, slice], bool] = lambda upper, lower: False,  # noqa: ARG005 (called by position)
) -> Iterator[tuple[Progress, NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]]:
    """Per pair of blocks: progress, rows i < j that may reach the threshold, and whether they surely do."""
    blocks = -(-len(view.ids) // block_rows)
    total, done = blocks * (blocks + 1) // 2, 0
    for a in range(blocks):
        upper = _unit_block(view, a, block_rows)
        slack = 1e-6 + 8 * float(np.sqrt(upper.shape[1])) * 2.0**-24
        for b in range(a, blocks):
            done += 1
            if needless(_rows(a, block_rows), _rows(b, block_rows)):
                yield Progress(STAGE, done, total), _NONE, _NONE, _NONE.astype(np.bool_)
                continue
            lower = upper if a == b else _unit_block(view, b, block_rows)
            scores = upper @ lower.T  # [n, m]
            i, j = np.nonzero(scores >= threshold - slack)
            if a == b:
                i, j = i[i < j], j[i < j]
            sure = scores[i, j] >= threshold + slack
            yield Progress(STAGE, done, total), i + a * block_rows, j + b * block_rows, sure


def _rows(block: int, block_rows: int) -> slice:
    return slice(block * block_rows, (block + 1) * block_rows)


def _unit_block(view: MatrixView, block: int, block_rows: int) -> NDArray[np.float32]:
    rows = np.arange(block * block_rows, min((block + 1) * block_rows, len(view.ids)))
    return unit_rows(view.take(rows)).astype(np.float32)


def _exact(view: MatrixView, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    left, right = unit_rows(view.take(first)), unit_rows(view.take(second))
    scores: NDArray[np.float64] = np.clip(np.round(np.einsum("ij,ij->i", left, right), 12), -1.0, 1.0)
    return scores


def _joined(labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Component labels after joining each pair; a label is the component's smallest row."""
    if not len(first):
        return labels
    edges = np.unique(labels[first] * len(labels) + labels[second])  # one number an edge sorts much faster
    parent: dict[int, int] = {}

    def root(label: int) -> int:
        while parent.get(label, label) != label:
            parent[label] = parent.get(parent[label], parent[label])
            label = parent[label]
        return label

    for edge in edges.tolist():
        ra, rb = (root(label) for label in divmod(edge, len(labels)))
        if ra != rb:
            parent[max(ra, rb)] = min(ra, rb)
    if not parent:
        return labels
    renamed = np.arange(len(labels))
    olds = np.fromiter(parent, np.int64)
    renamed[olds] = [root(old) for old in olds.tolist()]
    return renamed[labels]


def _group(view: MatrixView, rows: NDArray[np.int64]) -> DuplicateGroup:
    """The group of some rows (ascending): the member with the largest mean similarity represents it."""
    if len(rows) == 1:
        image_id = view.ids[int(rows[0])]
        return DuplicateGroup(image_id, (DuplicateMember(image_id, 1.0),))
    units = unit_rows(view.take(rows))  # [m, D]
    # The sum of a member's similarities to all members is its product with the sum of all.
    central = int(np.argmax(np.round(units @ units.sum(axis=0) / len(units), 12)))
    similar = np.clip(np.round(units @ units[central], 12), -1.0, 1.0)
    similar[central] = 1.0
    members = tuple(
        DuplicateMember(view.ids[row], float(value)) for row, value in zip(rows.tolist(), similar, strict=True)
    )
    return DuplicateGroup(view.ids[int(rows[central])], members)
