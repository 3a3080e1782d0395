# SPDX-License-Identifier: GPL-3.0-or-later
"""Near-duplicates: every pair and every group that a plain double loop finds, in any block size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.adapters.neighbor_graph import neighbor_pairs
from gandt.domain.errors import InvalidInput
from gandt.domain.near_duplicates import DuplicateSpec, MatrixView, content_numbers, find_near_duplicates, matrix_view
from gandt.domain.search import unit_rows
from gandt.domain.search_records import DuplicateGroup, DuplicateMode, DuplicatePair
from gandt.domain.vectors import VectorSet


def planted(seed: int, rows: int) -> VectorSet:
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(max(1, rows // 3), 4))
    matrix = centers[rng.integers(0, len(centers), rows)] + rng.normal(size=(rows, 4)) * 0.2
    ids = [f"i{n:03d}" for n in rng.permutation(rows)]
    return VectorSet(ids, matrix.astype(np.float32))


def pairs_of(vectors: VectorSet, threshold: float, block: int = 1024) -> list[DuplicatePair]:
    reports = find_near_duplicates(matrix_view(vectors), DuplicateSpec(threshold, "pairs"), block)
    return [pair for report in reports for pair in report.pairs]


def groups_of(vectors: VectorSet, threshold: float, block: int = 1024) -> list[DuplicateGroup]:
    reports = find_near_duplicates(matrix_view(vectors), DuplicateSpec(threshold), block)
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
    reports = list(find_near_duplicates(matrix_view(planted(3, 40)), DuplicateSpec(0.9), block_rows=3))
    steps = [report.progress.done for report in reports[:-1]]
    assert steps == list(range(1, reports[-1].progress.total + 1))
    assert all(report.exact for report in reports)


def test_an_exact_threshold_of_one_finds_equal_directions_only() -> None:
    matrix = np.array([[1, 2], [2, 4], [1, 2.001]], np.float32)
    assert [(p.first_id, p.second_id) for p in pairs_of(VectorSet(["a", "b", "c"], matrix), 1.0)] == [("a", "b")]


@pytest.mark.parametrize("threshold", [0.0, -0.5, 1.01, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float) -> None:
    with pytest.raises(InvalidInput):
        pairs_of(planted(1, 3), threshold)


def test_the_smallest_id_represents_a_group_when_order_is_asked_for() -> None:
    angles = np.radians([0, 10, 20])
    matrix = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    reports = find_near_duplicates(matrix_view(VectorSet(["a", "b", "c"], matrix)), DuplicateSpec(0.98, keep="order"))
    group = next(group for report in reports for group in report.groups)
    assert group.representative_id == "a"
    assert [member.similarity for member in group.members] == pytest.approx(np.cos(angles))


def with_contents(vectors: VectorSet, values: list[str | None]) -> MatrixView:
    return replace(matrix_view(vectors), contents=content_numbers(values))


def test_equal_content_is_a_duplicate_whatever_the_vectors_say() -> None:
    matrix = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [1, 0.001]], np.float32)
    view = with_contents(VectorSet(["a", "b", "c", "d", "e"], matrix), ["h1", "h2", "h1", None, ""])
    reports = list(find_near_duplicates(view, DuplicateSpec(0.99, "pairs")))
    pairs = [(p.first_id, p.second_id, p.score) for report in reports for p in report.pairs]
    assert pairs[0] == ("a", "c", 1.0)
    assert [pair[:2] for pair in pairs] == [("a", "c"), ("a", "e")]
    reports = list(find_near_duplicates(view, DuplicateSpec(0.99)))
    groups = [[m.image_id for m in group.members] for report in reports for group in report.groups]
    assert groups == [["a", "c", "e"], ["b"], ["d"]]
    reports = list(find_near_duplicates(view, DuplicateSpec(0.99, keep="order")))
    first = next(group for report in reports for group in report.groups)
    assert [(m.image_id, round(m.similarity, 3)) for m in first.members] == [("a", 1.0), ("c", 1.0), ("e", 1.0)]
    assert first.members[2].similarity < 1


def test_pairs_of_equal_content_and_equal_vectors_come_once() -> None:
    view = with_contents(VectorSet(["a", "b", "c"], np.ones((3, 2), np.float32)), ["h", "h", "h"])
    reports = find_near_duplicates(view, DuplicateSpec(0.99, "pairs"))
    assert [(p.first_id, p.second_id) for r in reports for p in r.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("most", [1, 7, 5000])
def test_identical_images_do_not_send_all_their_pairs(most: int, known: bool) -> None:
    rows = 300
    vectors = VectorSet([f"i{n:03d}" for n in range(rows)], np.ones((rows, 2), np.float32))
    view = with_contents(vectors, ["h"] * rows if known else [None] * rows)
    reports = list(find_near_duplicates(view, DuplicateSpec(0.9, "pairs", max_pairs=most), block_rows=64))
    assert sum(len(report.pairs) for report in reports) == most
    assert [report.truncated for report in reports] == [False] * (len(reports) - 1) + [True]


def test_as_many_pairs_as_asked_for_are_not_called_truncated() -> None:
    vectors = VectorSet([f"i{n}" for n in range(10)], np.ones((10, 2), np.float32))
    reports = list(find_near_duplicates(matrix_view(vectors), DuplicateSpec(0.9, "pairs", max_pairs=45)))
    assert sum(len(report.pairs) for report in reports) == 45
    assert not any(report.truncated for report in reports)


@pytest.mark.parametrize("mode", ["pairs", "groups"])
def test_the_neighbor_graph_finds_what_is_planted_and_says_that_it_may_miss_some(mode: DuplicateMode) -> None:
    rng = np.random.default_rng(7)
    base = rng.normal(size=(3000, 32))
    twins = base[:200] + rng.normal(size=(200, 32)) * 0.02
    matrix = np.concatenate([base, twins]).astype(np.float32)
    view = matrix_view(VectorSet([f"i{n:04d}" for n in range(len(matrix))], matrix))
    exact = list(find_near_duplicates(view, DuplicateSpec(0.98, mode)))
    reports = list(find_near_duplicates(view, DuplicateSpec(0.98, mode), approximate=neighbor_pairs))
    assert not any(report.exact for report in reports)
    assert {p for r in reports for p in r.pairs} == {p for r in exact for p in r.pairs}
    assert [g for r in reports for g in r.groups] == [g for r in exact for g in r.groups]
    steps = [report.progress.done for report in reports]
    assert steps == sorted(steps)
    assert reports[-1].progress.done == reports[-1].progress.total


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_the_neighbor_graph_takes_few_rows(rows: int) -> None:
    view = matrix_view(VectorSet([f"i{n}" for n in range(rows)], np.ones((rows, 3), np.float32)))
    reports = find_near_duplicates(view, DuplicateSpec(0.9), approximate=neighbor_pairs)
    assert [len(group.members) for report in reports for group in report.groups] == ([rows] if rows else [])


@pytest.mark.parametrize("spec", [DuplicateSpec(max_pairs=0), DuplicateSpec(content_field="a b")])
def test_a_spec_out_of_range_is_refused(spec: DuplicateSpec) -> None:
    with pytest.raises(InvalidInput):
        list(find_near_duplicates(matrix_view(planted(1, 3)), spec))
