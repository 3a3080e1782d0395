# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact nearest neighbors by cosine similarity, over blocks of a matrix that never has to be copied.

The matrix product runs in float32. Its rounding could swap neighbors whose scores almost agree, and
differs between equal rows at different places; so every row within the rounding error of the k-th score
is scored again in float64, and ties are broken by id. The answer is that of a float64 search.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.search_records import ExampleStrategy, ExampleVectors

SCORE_BLOCK = 1 << 22  # scores held at once (16 MiB as float32)
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
    """

    ids: Sequence[str]
    blocks: tuple[Block, ...]
    keep: NDArray[np.bool_]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """f32[R, D]: copies of some rows, in the order given."""
        dim = self.blocks[0].matrix.shape[1] if self.blocks else 0
        out = np.empty((len(rows), dim), np.float32)
        for block in self.blocks:
            here = (rows >= block.start) & (rows < block.start + len(block.matrix))
            if here.any():
                out[here] = block.matrix[rows[here] - block.start]
        return out


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows of a corpus, best first: i64[R] and their scores f64[R]."""

    rows: NDArray[np.int64]
    scores: Scores


def unit_rows(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """f64[N, D]: rows scaled to length 1; none may have length zero."""
    wide = np.asarray(matrix, np.float64)
    out: NDArray[np.float64] = wide / np.sqrt(np.einsum("ij,ij->i", wide, wide))[:, None]
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
    corpus = _narrowed(corpus)
    out: list[Ranked] = []
    longest = max((len(block.matrix) for block in corpus.blocks), default=1)
    step = max(1, SCORE_BLOCK // max(1, longest))
    for start in range(0, len(units), step):
        part = units[start : start + step]
        drop = [excluded[i] for i in range(start, start + len(part))] if excluded else [_NOTHING] * len(part)
        out += _ranked(corpus, part, None, k, min_score, drop)
    return out


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
    return _ranked(_narrowed(corpus), units, _combination(examples), k, min_score, drop)[0]


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


def _narrowed(corpus: Corpus) -> Corpus:
    """The same search with few rows copied out, when a filter keeps few."""
    rows = np.flatnonzero(corpus.keep)
    total = sum(len(block.matrix) for block in corpus.blocks)
    if len(rows) >= GATHER_SHARE * total:
        return corpus
    blocks = []
    for block in corpus.blocks:
        inside = np.flatnonzero(corpus.keep[block.start : block.start + len(block.matrix)])
        if len(inside):
            blocks.append(_Gathered(block.start, block.matrix[inside], block.scales[inside], inside + block.start))
    return Corpus(corpus.ids, tuple(blocks), corpus.keep)


@dataclass(frozen=True, slots=True)
class _Gathered(Block):
    """Rows copied out of a block; `rows` are their corpus rows."""

    rows: NDArray[np.int64]


def _ranked(
    corpus: Corpus,
    units: NDArray[np.float64],
    combine: Combine | None,
    k: int,
    min_score: float | None,
    excluded: Sequence[NDArray[np.int64]],
) -> list[Ranked]:
    """Rankings of Q queries; with `combine` the queries are one, scored from all their similarities."""
    count = 1 if combine is not None else len(units)
    found: list[list[_Candidates]] = [[] for _ in range(count)]
    floors = np.full(count, -np.inf)  # [Q] no row below can be among the best k
    narrow = units.astype(np.float32)
    slack = _rounding_error(units.shape[1]) if combine is None else 1e-9
    for block in corpus.blocks:
        scores: NDArray[np.floating]
        if combine is None:
            scores = (narrow @ block.matrix.T) * block.scales  # [Q, n]
        else:  # A strategy may jump where two similarities cross, so float32 would not do.
            scores = combine(_similarities(block.matrix, units))[None, :]  # [1, n]
        rows = block.rows if isinstance(block, _Gathered) else None
        if rows is None:
            scores[:, ~corpus.keep[block.start : block.start + len(block.matrix)]] = -np.inf
        for i in range(count):
            _drop(scores[i], block, rows, excluded[i])
            floors[i] = max(floors[i], _kth(scores[i], k) - slack)
            take = np.flatnonzero((scores[i] >= floors[i]) & (scores[i] > -np.inf))
            if len(take):
                found[i].append(_Candidates(take, rows[take] if rows is not None else take + block.start, block))
    return [
        _finished(corpus, found[i], units if combine is not None else units[i : i + 1], combine, k, min_score)
        for i in range(count)
    ]


@dataclass(frozen=True, slots=True)
class _Candidates:
    inside: NDArray[np.int64]
    rows: NDArray[np.int64]
    block: Block


def _drop(
    scores: NDArray[np.floating], block: Block, rows: NDArray[np.int64] | None, excluded: NDArray[np.int64]
) -> None:
    if not len(excluded):
        return
    if rows is None:
        inside = excluded[(excluded >= block.start) & (excluded < block.start + len(scores))] - block.start
        scores[inside] = -np.inf
    else:
        scores[np.isin(rows, excluded)] = -np.inf


def _kth(scores: NDArray[np.floating], k: int) -> float:
    if len(scores) < k:
        return -np.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def _rounding_error(dim: int) -> float:
    """More than a float32 product of two unit vectors is off by (errors add up like a random walk)."""
    return 1e-6 + 8 * float(np.sqrt(dim)) * 2.0**-24


def _finished(
    corpus: Corpus,
    found: list[_Candidates],
    units: NDArray[np.float64],
    combine: Combine | None,
    k: int,
    min_score: float | None,
) -> Ranked:
    """The candidates of one query, scored again in float64 and cut to k."""
    if not found:
        return Ranked(_NOTHING, np.zeros(0))
    rows = np.concatenate([part.rows for part in found])
    scores = np.concatenate([_rescored(part, units, combine) for part in found])
    if min_score is not None:
        good = scores >= min_score
        rows, scores = rows[good], scores[good]
    order = sorted(range(len(rows)), key=lambda i: (-scores[i], corpus.ids[int(rows[i])]))[:k]
    return Ranked(rows[order], scores[order])


def _rescored(part: _Candidates, units: NDArray[np.float64], combine: Combine | None) -> Scores:
    out = np.empty(len(part.rows))
    step = max(1, SCORE_BLOCK // max(1, units.shape[1]))
    for start in range(0, len(out), step):
        similar = _similarities(part.block.matrix[part.inside[start : start + step]], units)
        out[start : start + step] = similar[0] if combine is None else combine(similar)
    return out


def _similarities(matrix: NDArray[np.float32], units: NDArray[np.float64]) -> Scores:
    """f64[Q, n]: cosine similarities, the same for equal rows wherever they stand."""
    out = np.empty((len(units), len(matrix)))
    step = max(1, SCORE_BLOCK // max(1, units.shape[1]))
    for start in range(0, len(matrix), step):
        exact = unit_rows(matrix[start : start + step])  # [m, D]
        out[:, start : start + step] = np.stack([np.einsum("ij,j->i", exact, unit) for unit in units])
    return np.clip(np.round(out, _SCORE_DIGITS), -1.0, 1.0)


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
