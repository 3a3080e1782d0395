# SPDX-License-Identifier: GPL-3.0-or-later
"""Searches that were joined get the answers that they would have got alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.domain.joint_search import apart, joined
from gandt.domain.search_records import ItemSet, NearestQuery
from gandt.domain.vectors import VectorSet

DIM = 4


@st.composite
def searches(draw: st.DrawFn) -> NearestQuery:
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    count = draw(st.integers(1, 3))
    excluded = tuple(frozenset({f"i{draw(st.integers(0, 60))}"}) for _ in range(count)) if draw(st.booleans()) else ()
    return NearestQuery(
        rng.integers(-2, 3, (count, DIM)).astype(np.float32) + 0.1,
        draw(st.integers(1, 60)),
        min_score=draw(st.sampled_from([None, -0.5, 0.0, 0.9])),
        excluded=excluded,
        with_vectors=True,
    )


@given(st.lists(searches(), min_size=1, max_size=5))
def test_the_answers_are_those_of_single_searches(asked: list[NearestQuery]) -> None:
    rng = np.random.default_rng(5)
    store = MemoryVectors()
    store.create_collection("c", DIM, "m")
    matrix = rng.integers(-2, 3, (50, DIM)).astype(np.float32) + 0.25  # many equal rows: ties go by id
    store.upsert("c", ItemSet(VectorSet([f"i{n}" for n in range(50)], matrix, "m")))
    for one, answer in zip(asked, apart(store.nearest("c", joined(asked)), asked), strict=True):
        alone = store.nearest("c", one)
        assert [hits.hits for hits in answer.results] == [hits.hits for hits in alone.results]
        for mine, other in zip(answer.results, alone.results, strict=True):
            assert mine.vectors is not None
            assert other.vectors is not None
            assert np.array_equal(mine.vectors.matrix, other.vectors.matrix)
