# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact nearest neighbors by cosine similarity, over blocks of a matrix that never has to be copied.

The matrix product runs in float32. Its rounding could swap neighbors whose scores almost agree, and
differs between equal rows at different places; so every row within the rounding error of the k-th score
is scored again in float64, and ties are broken by id. The answer is that of a float64 search.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.search_records import ExampleStrategy, ExampleVectors
from gandt.domain.top_scores import ScoreTable

SCORE_BLOCK = 1 << 22  # numbers of a piece in float64 (32 MiB)
SCORES_HELD = 1 << 23  # scores held at once (32 MiB as float32); a single query may have more
TILE_BYTES = 2 << 20  # rows multiplied at once with several queries: what stays in a core's cache
FEW_ROWS = 64  # below, one copy a row is cheaper than a mask a block
GATHER_ROWS = 4096  # rows copied out at once
GATHER_SHARE = 0.25  # below this share of kept rows, copying them out is cheaper than scoring all
_SCORE_DIGITS = 12  # hides the last bits, in which equal vectors may differ

Scores = NDArray[np.float64]
Combine = Callable[[Scores], Scores]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a corpus.

    Attributes:
        start: corpus row of the first one.
        matrix: f32[n, D], not normalized.
        scales: f32[n], one over each row's length.
    """

    start: int
    matrix: NDArray[np.float32]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """The rows to search in.

    Attributes:
        ids: at least as many ids as rows.
        blocks: all rows, in order.
        keep: bool[N], the rows that may be found.
        keeps_all: every row may be; nobody has to look at `keep` then.
    """

    ids: Sequence[str]
    blocks: tuple[Block, ...]
    keep: NDArray[np.bool_]
    keeps_all: bool = False

    @property
    def size(self) -> int:
        """Rows, kept or not."""
        return self.blocks[-1].start + len(self.blocks[-1].matrix) if self.blocks else 0

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """f32[R, D]: copies of some rows, in the order given."""
        dim = self.blocks[0].matrix.shape[1] if self.blocks else 0
        out = np.empty((len(rows), dim), np.float32)
        if len(rows) <= FEW_ROWS:
            starts = [block.start for block in self.blocks]
            for place, row in enumerate(rows.tolist()):
                block = self.blocks[bisect_right(starts, row) - 1]
                out[place] = block.matrix[row - block.start]
            return out
        for block in self.blocks:
            here = np.flatnonzero((rows >= block.start) & (rows < block.start + len(block.matrix)))
            out[here] = block.matrix[rows[here] - block.start]
        return out


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows of a corpus, best first: i64[R] and their scores f64[R]."""

    rows: NDArray[np.int64]
    scores: Scores


def unit_rows(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """f64[N, D]: rows scaled to length 1; none may have length zero."""
    out = np.array(matrix, np.float64)
    out /= np.sqrt(np.vecdot(out, out))[:, None]
    return out


def nearest(
    corpus: Corpus,
    queries: NDArray[np.floating],
    k: int,
    min_score: float | None = None,
    excluded: Sequence[NDArray[np.int64]] = (),
) -> list[Ranked]:
    """The k nearest rows to each query, by cosine similarity.

    Args:
        queries: [Q, D], none of length zero.
        k: most rows a query, at least 1.
        min_score: smallest score to return; None for no limit.
        excluded: rows that must not appear, one array a query; () excludes none.
    Returns:
        Q rankings of min(k, kept rows) at most, scores in [-1, 1], ties by id.
    """
    units = unit_rows(queries)  # [Q, D]
    step = max(1, SCORES_HELD // max(1, corpus.size))
    step = -(-len(units) // max(1, -(-len(units) // step)))  # parts of like size
    out: list[Ranked] = []
    for start in range(0, len(units), max(1, step)):
        part = units[start : start + step]
        drop = excluded[start : start + len(part)] if excluded else [_NOTHING] * len(part)
        out += _ranked(corpus, part, None, k, min_score, drop)
    return out


def rescored(
    corpus: Corpus, rows: NDArray[np.int64], query: NDArray[np.floating], k: int, min_score: float | None = None
) -> Ranked:
    """The k nearest of some rows to one query f32[D], scored in float64, ties by id."""
    return _finished(corpus, rows, unit_rows(query[None, :]), None, k, min_score)


def nearest_to_examples(
    corpus: Corpus,
    examples: ExampleVectors,
    k: int,
    min_score: float | None = None,
    excluded: NDArray[np.int64] | None = None,
) -> Ranked:
    """The k rows with the best score of a strategy.

    AVERAGE: one query, twice the weighted mean of the positives less that of the negatives, all of
    length 1 (minus the mean of the negatives when there is no positive). BEST_SCORE: the best weighted
    similarity to a positive, or minus the square of the best one to a negative where that is larger.
    SUM_SCORES: the weighted similarities to the positives less those to the negatives.

    Raises:
        InvalidInput: the examples cancel each other out, so that no direction is left.
    Source:
        Qdrant's recommendation strategies; weights are ours.
    """
    drop = [_NOTHING if excluded is None else excluded]
    if examples.strategy == ExampleStrategy.AVERAGE:
        query = average_direction(examples)[None, :]
        return nearest(corpus, query, k, min_score, drop)[0]
    units = unit_rows(np.concatenate([examples.positives, examples.negatives]))  # [P + M, D]
    return _ranked(corpus, units, _combination(examples), k, min_score, drop)[0]


def average_direction(examples: ExampleVectors) -> NDArray[np.float64]:
    """f64[D]: the one query of the strategy AVERAGE.

    Raises:
        InvalidInput: the examples cancel each other out.
    """
    query = np.zeros(examples.positives.shape[1] or examples.negatives.shape[1])
    if len(examples.positives):
        query = 2 * np.average(unit_rows(examples.positives), axis=0, weights=examples.positive_weights)
        if not len(examples.negatives):
            query = query / 2
    if len(examples.negatives):
        query = query - np.average(unit_rows(examples.negatives), axis=0, weights=examples.negative_weights)
    if np.linalg.norm(query) < 1e-9:
        raise InvalidInput(
            "the examples cancel each other out, no direction is left",
            field="examples",
            reason="EXAMPLES_CANCEL",
            fix="leave some out, or take the strategy best_score or sum_scores",
        )
    return query


def mmr(relevance: Scores, vectors: NDArray[np.floating], count: int, diversity: float) -> NDArray[np.int64]:
    """Candidates in the order of maximal marginal relevance.

    Each step takes the candidate with the largest (1 - diversity) * relevance - diversity * (largest
    cosine similarity to one already taken); the first is the most relevant; ties keep the order given.

    Args:
        relevance: f64[C], best first.
        vectors: [C, D], none of length zero.
        count: how many to take.
        diversity: in [0, 1].
    Returns:
        i64[min(count, C)] positions.
    Source:
        Carbonell and Goldstein, The use of MMR (SIGIR 1998).
    Example:
        >>> import numpy as np
        >>> mmr(np.array([0.9, 0.89, 0.5]), np.array([[1.0, 0], [1, 0], [0, 1]]), 2, 0.5).tolist()
        [0, 2]
    """
    units = unit_rows(vectors) if len(vectors) else np.zeros((0, 1))
    closest = np.full(len(relevance), -1.0)  # [C] similarity to the nearest one taken
    left = np.ones(len(relevance), np.bool_)
    order: list[int] = []
    for _ in range(min(count, len(relevance))):
        gain = relevance if not order else (1 - diversity) * relevance - diversity * closest
        best = int(np.argmax(np.where(left, gain, -np.inf)))
        order.append(best)
        left[best] = False
        closest = np.maximum(closest, np.round(units @ units[best], _SCORE_DIGITS))
    return np.array(order, np.int64)


_NOTHING = np.zeros(0, np.int64)


def _ranked(
    corpus: Corpus,
    units: NDArray[np.float64],
    combine: Combine | None,
    k: int,
    min_score: float | None,
    excluded: Sequence[NDArray[np.int64]],
) -> list[Ranked]:
    """Rankings of Q queries; with `combine` the queries are one, scored from all their similarities."""
    narrow = units.astype(np.float32)
    count = 1 if combine is not None else len(units)
    rows = _few_rows(corpus)
    total = corpus.size if rows is None else len(rows)
    if not total:
        return [Ranked(_NOTHING, np.zeros(0))] * count
    table = ScoreTable.for_best(count, total, k, np.float32 if combine is None else np.float64)
    for start, matrix, scales in _tiles(corpus, rows):
        out = table.scores[:, start : start + len(matrix)]  # [Q, n]
        if combine is None:
            _product(narrow, matrix, out)
            out *= scales
        else:  # A strategy may jump where two similarities cross, so float32 would not do.
            out[0] = combine(_similarities(matrix, units))
    if rows is None and not corpus.keeps_all:
        np.copyto(table.scores[:, :total], -np.inf, where=~corpus.keep[:total])
    for scores, drop in zip(table.scores, excluded, strict=True):
        if len(drop):
            scores[drop if rows is None else np.flatnonzero(np.isin(rows, drop))] = -np.inf
    found = table.best(k, rounding_error(units.shape[1]) if combine is None else 1e-9)
    return [
        _finished(
            corpus,
            columns if rows is None else rows[columns],
            units if combine is not None else units[i : i + 1],
            combine,
            k,
            min_score,
        )
        for i, columns in enumerate(found)
    ]


def _few_rows(corpus: Corpus) -> NDArray[np.int64] | None:
    """i64: the kept rows when they are few; None when all rows are better scored."""
    if corpus.keeps_all:
        return None
    rows = np.flatnonzero(corpus.keep)
    return rows if len(rows) < GATHER_SHARE * corpus.size else None


def _tiles(
    corpus: Corpus, rows: NDArray[np.int64] | None
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.float32]]]:
    """(first column, f32[n, D] vectors, f32[n] scales) of all rows, or copies of some rows, ascending."""
    for block in corpus.blocks:
        if rows is None:
            yield block.start, block.matrix, block.scales
            continue
        first, last = np.searchsorted(rows, (block.start, block.start + len(block.matrix)))
        for start in range(int(first), int(last), GATHER_ROWS):
            inside = rows[start : min(start + GATHER_ROWS, int(last))] - block.start
            yield start, block.matrix[inside], block.scales[inside]


def _product(queries: NDArray[np.float32], matrix: NDArray[np.float32], out: NDArray[np.floating]) -> None:
    """out[Q, n] = queries[Q, D] @ matrix[n, D].T, in the order of operands and pieces that BLAS is quickest in.

    Measured at D 512: two queries take 20 ms in pieces that stay in the cache, 50 to 70 ms in one product, and
    one query as long as reading the matrix takes.
    """
    if len(queries) == 1:
        np.dot(matrix, queries[0], out=out[0])
        return
    step = max(64, TILE_BYTES // (4 * matrix.shape[1]))
    turned = queries.T
    for start in range(0, len(matrix), step):
        out[:, start : start + step] = (matrix[start : start + step] @ turned).T


def rounding_error(dim: int) -> float:
    """More than a float32 product of two unit vectors is off by (errors add up like a random walk)."""
    return 1e-6 + 8 * float(np.sqrt(dim)) * 2.0**-24


def _finished(
    corpus: Corpus,
    rows: NDArray[np.int64],
    units: NDArray[np.float64],
    combine: Combine | None,
    k: int,
    min_score: float | None,
) -> Ranked:
    """The candidates of one query, scored again in float64 and cut to k."""
    scores = np.empty(len(rows))
    step = max(1, SCORE_BLOCK // units.shape[1])
    for start in range(0, len(rows), step):
        similar = _similarities(corpus.vectors(rows[start : start + step]), units)
        scores[start : start + step] = similar[0] if combine is None else combine(similar)
    if min_score is not None:
        good = scores >= min_score
        rows, scores = rows[good], scores[good]
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    if (ranked[1:] == ranked[:-1]).any():
        order = np.array(sorted(order.tolist(), key=lambda i: (-scores[i], corpus.ids[int(rows[i])])), np.int64)
    return Ranked(rows[order[:k]], scores[order[:k]])


def _similarities(matrix: NDArray[np.float32], units: NDArray[np.float64]) -> Scores:
    """f64[Q, n]: cosine similarities, the same for equal rows wherever they stand."""
    out = np.empty((len(units), len(matrix)))
    step = max(1, SCORE_BLOCK // max(1, units.shape[1]))
    for start in range(0, len(matrix), step):
        wide = matrix[start : start + step].astype(np.float64)  # [m, D]
        lengths = np.sqrt(np.vecdot(wide, wide))
        for scores, unit in zip(out[:, start : start + step], units, strict=True):
            np.vecdot(wide, unit, out=scores)  # one dot product a row: no row knows its neighbors
            scores /= lengths
    out.round(_SCORE_DIGITS, out=out)
    np.minimum(out, 1.0, out=out)  # np.clip takes twice as long as these two
    return np.maximum(out, -1.0, out=out)


def _combination(examples: ExampleVectors) -> Combine:
    positives = len(examples.positives)
    weights = np.concatenate([examples.positive_weights, examples.negative_weights])[:, None]  # [P + M, 1]

    def best(similar: Scores) -> Scores:
        weighted = similar * weights
        near = weighted[:positives].max(axis=0, initial=-np.inf)
        far = weighted[positives:].max(axis=0, initial=-np.inf)
        return np.where(near > far, near, -(np.where(np.isfinite(far), far, 0.0) ** 2))

    def total(similar: Scores) -> Scores:
        weighted = similar * weights
        out: Scores = np.round(weighted[:positives].sum(axis=0) - weighted[positives:].sum(axis=0), _SCORE_DIGITS)
        return out

    return best if examples.strategy == ExampleStrategy.BEST_SCORE else total
