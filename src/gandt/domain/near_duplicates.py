# SPDX-License-Identifier: GPL-3.0-or-later
"""Near-duplicates: all pairs above a cosine threshold by blocked products, and the groups that they connect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gandt.domain.duplicate_groups import group_of, joined
from gandt.domain.errors import InvalidInput
from gandt.domain.fields import FieldValue, check_field_name
from gandt.domain.progress import Progress
from gandt.domain.search import rounding_error, unit_rows
from gandt.domain.search_records import DuplicateKeep, DuplicateMode, DuplicatePair, DuplicateReport
from gandt.domain.vectors import VectorSet, squared_lengths

DEFAULT_THRESHOLD = 0.95
DEFAULT_MAX_PAIRS = 1_000_000
MOST_PAIRS = 100_000_000
CONTENT_FIELD = "content_sha256"
BLOCK_ROWS = 1024
UPPER_BLOCKS = 4  # blocks scaled once and then compared with all later ones
STAGE = "comparing"
_CHUNK = 8192  # pairs scored again at once
_GROUPS_A_REPORT = 1000


@dataclass(frozen=True, slots=True)
class MatrixView:
    """Vectors to compare, without saying where they lie.

    Attributes:
        ids: N ids in ascending order.
        take: copies of some rows, f32[R, D], none of length zero.
        generation: of the collection they come from; 0 for a file.
        contents: i64[N], equal for rows of equal content, -1 where the content is not known; None for all unknown.
    """

    ids: Sequence[str]
    take: Callable[[NDArray[np.int64]], NDArray[np.float32]]
    generation: int = 0
    contents: NDArray[np.int64] | None = None


class Candidates(NamedTuple):
    """Pairs that may reach a threshold: rows `first` < `second`, whether they surely do, and how far it is."""

    progress: Progress
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    sure: NDArray[np.bool_]


# Finds candidates of a view at a threshold, each pair once; may miss some.
FindCandidates = Callable[[MatrixView, float], Iterator[Candidates]]


@dataclass(frozen=True, slots=True)
class DuplicateSpec:
    """What to look for.

    Attributes:
        threshold: smallest cosine similarity of a pair, in (0, 1].
        mode: `pairs` yields each pair once, as found; `groups` yields connected groups at the end, single items too,
            ordered by their smallest id.
        keep: which member represents a group.
        max_pairs: most pairs to yield; the comparison ends there.
        content_field: text field with a hash of an item's content; "" for none.
        exact: compare all pairs however many they are.
    """

    threshold: float = DEFAULT_THRESHOLD
    mode: DuplicateMode = "groups"
    keep: DuplicateKeep = "central"
    max_pairs: int = DEFAULT_MAX_PAIRS
    content_field: str = CONTENT_FIELD
    exact: bool = False

    def check(self) -> None:
        """Raise InvalidInput where something is out of range."""
        check_threshold(self.threshold)
        if not 1 <= self.max_pairs <= MOST_PAIRS:
            raise InvalidInput(
                f"max_pairs is {self.max_pairs}, allowed are 1 to {MOST_PAIRS}",
                field="max_pairs",
                reason="TOO_MANY",
                fix="ask for groups, or raise the threshold",
            )
        if self.content_field:
            check_field_name(self.content_field)


def content_numbers(values: Iterable[FieldValue | None]) -> NDArray[np.int64]:
    """i64[N]: a number for each text, -1 for what is none or empty; for `MatrixView.contents`."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(value, len(numbers)) if isinstance(value, str) and value else -1 for value in values],
        np.int64,
    )


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
    spec: DuplicateSpec | None = None,
    block_rows: int = BLOCK_ROWS,
    approximate: FindCandidates | None = None,
) -> Iterator[DuplicateReport]:
    """Compares every pair and reports as it goes. Rows of equal content are duplicates whatever their vectors.

    Args:
        block_rows: rows of a block; blocks are compared two at a time.
        approximate: finds the pairs to score instead; reports then say that they are not exact.
    Raises:
        InvalidInput: the threshold, max_pairs or the field is out of range.
    """
    spec = spec or DuplicateSpec()
    spec.check()
    find = _find_pairs if spec.mode == "pairs" else _find_groups
    for report in find(view, spec, block_rows, approximate):
        yield report if approximate is None else replace(report, exact=False)


def _find_pairs(
    view: MatrixView, spec: DuplicateSpec, block_rows: int, approximate: FindCandidates | None
) -> Iterator[DuplicateReport]:
    left = spec.max_pairs
    contents = view.contents
    for first_id, second_ids in _equal_pairs(view):
        if len(second_ids) > left:
            pairs = tuple(DuplicatePair(first_id, second_id, 1.0) for second_id in second_ids[:left])
            yield DuplicateReport(Progress(STAGE), pairs, truncated=True)
            return
        yield DuplicateReport(Progress(STAGE), tuple(DuplicatePair(first_id, other, 1.0) for other in second_ids))
        left -= len(second_ids)
    found = (approximate or _compared(block_rows))(view, spec.threshold)
    for progress, first, second, _ in found:
        if contents is not None:
            fresh = (contents[first] < 0) | (contents[first] != contents[second])
            first, second = first[fresh], second[fresh]
        yield DuplicateReport(progress)
        for start in range(0, len(first), _CHUNK):
            a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
            scores = _exact(view, a, b)
            pairs = tuple(
                DuplicatePair(view.ids[i], view.ids[j], float(score))
                for i, j, score in zip(a.tolist(), b.tolist(), scores, strict=True)
                if score >= spec.threshold
            )
            if len(pairs) > left:
                yield DuplicateReport(progress, pairs[:left], truncated=True)
                return
            left -= len(pairs)
            if pairs:
                yield DuplicateReport(progress, pairs)


def _equal_pairs(view: MatrixView) -> Iterator[tuple[str, Sequence[str]]]:
    """Each row of known content with the later rows of the same content."""
    for rows in _equal_rows(view):
        ids = [view.ids[row] for row in rows.tolist()]
        for position, first_id in enumerate(ids[:-1]):
            yield first_id, ids[position + 1 :]


def _equal_rows(view: MatrixView) -> list[NDArray[np.int64]]:
    """Rows of equal content, ascending, where there are several."""
    if view.contents is None:
        return []
    order = np.argsort(view.contents, kind="stable")
    order = order[view.contents[order] >= 0]
    parts = np.split(order, np.flatnonzero(np.diff(view.contents[order])) + 1) if len(order) else []
    return [rows for rows in parts if len(rows) > 1]


def _find_groups(
    view: MatrixView, spec: DuplicateSpec, block_rows: int, approximate: FindCandidates | None
) -> Iterator[DuplicateReport]:
    labels = np.arange(len(view.ids))  # [N] the smallest row of each row's component so far
    for rows in _equal_rows(view):
        labels[rows] = rows[0]
    progress = Progress(STAGE)

    def are_joined(upper: slice, lower: slice) -> bool:
        """Whether all rows of two blocks are in one group already, so that comparing them tells nothing."""
        both = np.concatenate([labels[upper], labels[lower]])
        return bool((both == both[0]).all())

    for progress, first, second, sure in (approximate or _compared(block_rows, are_joined))(view, spec.threshold):
        apart = labels[first] != labels[second]
        first, second, sure = first[apart], second[apart], sure[apart]
        labels = joined(labels, first[sure], second[sure])
        # Only pairs within the rounding error of the threshold need the float64 score.
        first, second = first[~sure], second[~sure]
        for start in range(0, len(first), _CHUNK):
            a, b = first[start : start + _CHUNK], second[start : start + _CHUNK]
            near = _exact(view, a, b) >= spec.threshold
            labels = joined(labels, a[near], b[near])
        yield DuplicateReport(progress)
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    parts = np.split(order, starts[1:]) if len(order) else []
    for start in range(0, max(1, len(parts)), _GROUPS_A_REPORT):
        groups = (
            group_of(view.ids, view.take, rows, spec.keep, view.contents)
            for rows in parts[start : start + _GROUPS_A_REPORT]
        )
        yield DuplicateReport(progress, groups=tuple(groups))


def _compared(
    block_rows: int,
    needless: Callable[[slice, slice], bool] = lambda upper, lower: False,  # noqa: ARG005 (called by position)
) -> FindCandidates:
    """Compares all pairs: some blocks of rows are scaled once and multiplied with every later block.

    Args:
        needless: whether two blocks need not be compared.
    """

    def find(view: MatrixView, threshold: float) -> Iterator[Candidates]:
        rows = len(view.ids)
        steps = range(0, rows, UPPER_BLOCKS * block_rows)
        total, done = sum(-(-(rows - top) // block_rows) for top in steps), 0
        none = np.zeros(0, np.int64)
        for top in steps:
            upper = _unit_block(view, top, min(top + UPPER_BLOCKS * block_rows, rows))
            slack = rounding_error(upper.shape[1])
            for start in range(top, rows, block_rows):
                done += 1
                progress = Progress(STAGE, done, total)
                end = min(start + block_rows, rows)
                above = upper[: end - top]  # later rows come as lower blocks of their own
                if needless(slice(top, top + len(above)), slice(start, end)):
                    yield Candidates(progress, none, none, none.astype(np.bool_))
                    continue
                lower = upper[start - top : end - top] if start - top < len(upper) else _unit_block(view, start, end)
                scores = above @ lower.T  # [n, m]
                hits = np.flatnonzero(scores.ravel() >= threshold - slack)
                i, j = np.divmod(hits, len(lower))
                sure = scores.ravel()[hits] >= threshold + slack
                ahead = i + top < j + start
                yield Candidates(progress, i[ahead] + top, j[ahead] + start, sure[ahead])

    return find


def _unit_block(view: MatrixView, start: int, end: int) -> NDArray[np.float32]:
    """f32[end - start, D]: rows scaled to length 1."""
    block = view.take(np.arange(start, end))
    lengths = np.sqrt(squared_lengths(block))
    out: NDArray[np.float32] = block * (1.0 / lengths).astype(np.float32)[:, None]
    return out


def _exact(view: MatrixView, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    left, right = unit_rows(view.take(first)), unit_rows(view.take(second))
    scores: NDArray[np.float64] = np.clip(np.round(np.einsum("ij,ij->i", left, right), 12), -1.0, 1.0)
    return scores
