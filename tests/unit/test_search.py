# SPDX-License-Identifier: GPL-3.0-or-later
"""Exact search: float64 truth, ties by id, filters, examples and diversity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gandt.domain import search
from gandt.domain.errors import InvalidInput
from gandt.domain.search import Block, Corpus, nearest, nearest_to_examples
from gandt.domain.search_records import ExampleStrategy, ExampleVectors


def corpus_of(matrix: NDArray[np.float32], keep: NDArray[np.bool_] | None = None, block: int = 50) -> Corpus:
    ids = [f"{(row * 7919) % len(matrix):05d}" for row in range(len(matrix))]
    blocks = tuple(
        Block(start, part := matrix[start : start + block], (1 / np.linalg.norm(part, axis=1)).astype(np.float32))
        for start in range(0, len(matrix), block)
    )
    return Corpus(ids, blocks, np.ones(len(matrix), np.bool_) if keep is None else keep)


def truth(corpus: Corpus, matrix: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[str]:
    unit = search.unit_rows(matrix)
    scores = np.round(unit @ search.unit_rows(query[None])[0], 10)
    rows = [row for row in range(len(matrix)) if corpus.keep[row]]
    return [corpus.ids[row] for row in sorted(rows, key=lambda row: (-scores[row], corpus.ids[row]))[:k]]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**31), st.integers(1, 97), st.integers(1, 30), st.sampled_from([1.0, 0.3, 0.05]))
def test_top_k_with_ties_is_the_float64_answer(seed: int, rows: int, k: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    # Few distinct vectors, so that many scores are equal: the ids must decide.
    distinct = rng.normal(size=(5, 3)).astype(np.float32)
    matrix = distinct[rng.integers(0, 5, rows)]
    corpus = corpus_of(matrix, rng.random(rows) < share, block=13)
    query = rng.normal(size=3).astype(np.float32)
    found = nearest(corpus, query[None], k)[0]
    assert [corpus.ids[row] for row in found.rows] == truth(corpus, matrix, query, k)
    assert len(found.rows) == min(k, int(corpus.keep.sum()))


@pytest.mark.parametrize("share", [1.0, 0.1, 0.01, 0.002])
def test_filters_of_any_selectivity_are_exact(share: float) -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(5000, 32)).astype(np.float32)
    keep = rng.random(5000) < share
    corpus = corpus_of(matrix, keep, block=1024)
    queries = rng.normal(size=(20, 32)).astype(np.float32)
    for query, found in zip(queries, nearest(corpus, queries, 10), strict=True):
        assert [corpus.ids[row] for row in found.rows] == truth(corpus, matrix, query, 10)
        assert len(found.rows) == min(10, int(keep.sum()))


def test_min_score_and_excluded_rows() -> None:
    matrix = np.eye(4, dtype=np.float32)
    matrix[1] = [3, 4, 0, 0]
    corpus = corpus_of(matrix)
    found = nearest(corpus, matrix[:1], 4, min_score=0.6, excluded=[np.array([0])])[0]
    assert found.rows.tolist() == [1]
    assert found.scores.tolist() == [0.6]


def test_no_rows_no_hits() -> None:
    corpus = corpus_of(np.ones((3, 2), np.float32), np.zeros(3, np.bool_))
    assert nearest(corpus, np.ones((1, 2)), 5)[0].rows.tolist() == []


def examples(strategy: ExampleStrategy, positives: list[list[float]], negatives: list[list[float]]) -> ExampleVectors:
    return ExampleVectors(
        np.array(positives, np.float32).reshape(-1, 2),
        np.array(negatives, np.float32).reshape(-1, 2),
        np.ones(len(positives)),
        np.ones(len(negatives)),
        strategy,
    )


PLANE = np.array([[1, 0], [0, 1], [-1, 0], [1, 1]], np.float32)


def scores_by_row(query: ExampleVectors) -> dict[int, float]:
    found = nearest_to_examples(corpus_of(PLANE), query, 4)
    return dict(zip(found.rows.tolist(), found.scores.tolist(), strict=True))


def test_average_is_twice_the_positives_less_the_negatives() -> None:
    scores = scores_by_row(examples(ExampleStrategy.AVERAGE, [[2, 0]], [[0, 3]]))
    direction = np.array([2.0, -1.0]) / np.sqrt(5)
    assert scores == pytest.approx({row: float(search.unit_rows(PLANE)[row] @ direction) for row in range(4)})


def test_best_score_is_the_best_positive_or_minus_the_square_of_the_best_negative() -> None:
    half = np.sqrt(0.5)
    scores = scores_by_row(examples(ExampleStrategy.BEST_SCORE, [[1, 0]], [[0, 1]]))
    assert scores == pytest.approx({0: 1.0, 1: -1.0, 2: 0.0, 3: -(half**2)})


def test_sum_scores_adds_and_subtracts_with_weights() -> None:
    query = ExampleVectors(
        np.array([[1, 0]], np.float32),
        np.array([[0, 1]], np.float32),
        np.array([2.0]),
        np.array([0.5]),
        ExampleStrategy.SUM_SCORES,
    )
    half = np.sqrt(0.5)
    assert scores_by_row(query) == pytest.approx({0: 2.0, 1: -0.5, 2: -2.0, 3: 1.5 * half})


@pytest.mark.parametrize("strategy", list(ExampleStrategy))
def test_negatives_alone_find_outliers(strategy: ExampleStrategy) -> None:
    scores = scores_by_row(examples(strategy, [], [[1, 1]]))
    assert min(scores, key=lambda row: scores[row]) == 3


def test_examples_that_cancel_are_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        nearest_to_examples(corpus_of(PLANE), examples(ExampleStrategy.AVERAGE, [[1, 0], [-1, 0]], []), 1)
    assert caught.value.reason == "EXAMPLES_CANCEL"


def test_mmr_spreads_and_zero_diversity_keeps_the_order() -> None:
    relevance = np.array([0.9, 0.89, 0.88, 0.2])
    vectors = np.array([[1, 0.0], [1, 0.01], [0.6, 0.8], [0, 1]])
    assert search.mmr(relevance, vectors, 4, 0.0).tolist() == [0, 1, 2, 3]
    assert search.mmr(relevance, vectors, 2, 0.5).tolist() == [0, 2]
    assert search.mmr(relevance[:0], vectors[:0], 2, 0.5).tolist() == []
