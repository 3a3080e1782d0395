# SPDX-License-Identifier: GPL-3.0-or-later
"""The columns that may be among the best k: none missing, none needlessly far below."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.domain.top_scores import ScoreTable


@given(
    columns=st.integers(1, 3000),
    k=st.integers(1, 60),
    dead=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    levels=st.sampled_from([2, 10, 10_000]),
    seed=st.integers(0, 99),
)
def test_exactly_the_columns_within_the_slack_of_the_kth_score(
    columns: int, k: int, dead: float, levels: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    scores = (rng.integers(0, levels, (3, columns)) / levels).astype(np.float32)
    scores[rng.random((3, columns)) < dead] = -np.inf
    table = ScoreTable.for_best(3, columns, k)
    table.scores[:, :columns] = scores
    for row, found in zip(scores, table.best(k, 0.01), strict=True):
        ranked = np.sort(row)[::-1]
        floor = ranked[k - 1] - 0.01 if columns >= k else -np.inf
        assert found.tolist() == np.flatnonzero((row >= floor) & (row > -np.inf)).tolist()


@pytest.mark.parametrize(("columns", "group"), [(100_000, 64), (1000, 25), (10, 1)])
def test_groups_are_smaller_where_there_are_few_columns(columns: int, group: int) -> None:
    assert ScoreTable.for_best(1, columns, 10).group == group
