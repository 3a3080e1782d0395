# SPDX-License-Identifier: GPL-3.0-or-later
"""Near-duplicates: every pair and every group that a plain double loop finds, in any block size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.errors import InvalidInput
from gandt.domain.near_duplicates import find_near_duplicates, matrix_view
from gandt.domain.search import unit_rows
from gandt.domain.search_records import DuplicateGroup, DuplicatePair
from gandt.domain.vectors import VectorSet


def planted(seed: int, rows: int) -> VectorSet:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(max(1, rows // 3), 4))
    matrix = centers[rng.integers(0, len(centers), rows)] + rng.normal(size=(rows, 4)) * 0.2
    ids = [f"i{n:03d}" for n in rng.permutation(rows)]
    return VectorSet(ids, matrix.astype(np.float32))


def pairs_of(vectors: VectorSet, threshold: float, block: int = 1024) -> list[DuplicatePair]:
    reports = find_near_duplicates(matrix_view(vectors), threshold, "pairs", block)
    return [pair for report in reports for pair in report.pairs]


def groups_of(vectors: VectorSet, threshold: float, block: int = 1024) -> list[DuplicateGroup]:
    reports = find_near_duplicates(matrix_view(vectors), threshold, "groups", block)
    return [group for report in reports for group in report.groups]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31), st.integers(0, 40), st.sampled_from([3, 16, 1024]))
def test_pairs_and_groups_are_those_of_a_double_loop(seed: int, rows: int, block: int) -> None:
    vectors = planted(seed, rows)
    unit = unit_rows(vectors.matrix) if rows else np.zeros((0, 4))
    close = {
        tuple(sorted((vectors.ids[i], vectors.ids[j])))
        for i in range(rows)
        for j in range(i)
        if unit[i] @ unit[j] >= 0.9
    }
    found = pairs_of(vectors, 0.9, block)
    groups = groups_of(vectors, 0.9, block)
    assert {(pair.first_id, pair.second_id) for pair in found} == close
    assert len(found) == len(close)
    component = {image_id: {image_id} for image_id in vectors.ids}
    for first, second in close:
        union = component[first] | component[second]
        for image_id in union:
            component[image_id] = union
    members = [tuple(member.image_id for member in group.members) for group in groups]
    assert members == sorted({tuple(sorted(ids)) for ids in component.values()})


def test_the_representative_is_the_most_central_and_ties_go_to_the_smaller_id() -> None:
    angles = np.radians([0, 10, 20, 90, 90])
    matrix = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    groups = groups_of(VectorSet(["a", "b", "c", "z", "y"], matrix), 0.98)
    assert [group.representative_id for group in groups] == ["b", "y"]
    assert groups[0].members[1].similarity == 1.0
    assert groups[0].members[0].similarity == pytest.approx(np.cos(np.radians(10)))
    assert [member.image_id for member in groups[1].members] == ["y", "z"]


def test_progress_runs_to_its_end() -> None:
    reports = list(find_near_duplicates(matrix_view(planted(3, 20)), 0.9, "pairs"))
    assert reports[-1].progress.done == reports[-1].progress.total == len(reports)


def test_an_exact_threshold_of_one_finds_equal_directions_only() -> None:
    matrix = np.array([[1, 2], [2, 4], [1, 2.001]], np.float32)
    assert [(p.first_id, p.second_id) for p in pairs_of(VectorSet(["a", "b", "c"], matrix), 1.0)] == [("a", "b")]


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput):
        pairs_of(planted(1, 3), threshold)
