# SPDX-License-Identifier: GPL-3.0-or-later
"""The same picks and decisions for any block size, number of threads and order of shards, in a pool that needs them."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gandt.domain.datasets import LabeledImage
from gandt.domain.selection.filtering import LabeledVectors, filter_pool
from gandt.domain.selection.pool import MemoryRows, Pool
from gandt.domain.selection.records import FilterSpec, SelectResult, SelectSpec
from gandt.domain.selection.registry import strategies
from gandt.domain.selection.selecting import Known
from gandt.domain.selection.steps import finish
from gandt.domain.selection.training import merged, training_set
from tests.unit.selection.make import pick

COUNT, DIM, SHARD = 9_000, 48, 700


@cache
def world() -> tuple[list[str], np.ndarray, Known]:
    """9,000 images in shards, float32, of 12 kinds, one wanted; 60 are labeled, some of them doubtfully."""
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 12, COUNT + 60)
    matrix = (rng.normal(size=(12, DIM))[kinds] + rng.normal(size=(COUNT + 60, DIM))).astype(np.float32)
    labeled = merged(
        LabeledImage(f"known{row:02d}", ("rare",) if kinds[COUNT + row] < 2 else ("Other",), 0.6 + 0.4 * (row % 2))
        for row in range(60)
    )
    units = matrix[COUNT:] / np.linalg.norm(matrix[COUNT:], axis=1, keepdims=True)
    return [f"i{row:05d}" for row in range(COUNT)], matrix[:COUNT], Known(training_set(labeled, list(labeled), units))


def rows_of(order: np.ndarray) -> tuple[list[str], MemoryRows]:
    """Ids and rows, shards in the given order."""
    ids, matrix, _ = world()
    shards = [np.arange(start, min(start + SHARD, COUNT)) for start in range(0, COUNT, SHARD)]
    rows = MemoryRows()
    names: list[str] = []
    for number in order.tolist():
        rows.append(matrix[shards[number]])
        names += [ids[row] for row in shards[number].tolist()]
    return names, rows


def selected(strategy: str, block_rows: int, threads: int, shuffled: bool) -> SelectResult:
    shards = np.arange(-(-COUNT // SHARD))
    names, rows = rows_of(np.random.default_rng(4).permutation(shards) if shuffled else shards)
    spec = SelectSpec(
        strategy=strategy, target_labels=("rare",), other_label="Other", count=40, control_fraction=0.1, seed=5
    )
    with threadpool_limits(threads):
        return pick(spec, Pool(names, rows, block_rows), world()[2])


@pytest.mark.parametrize("strategy", sorted(strategies()))
def test_the_same_picks(strategy: str) -> None:
    first = selected(strategy, 64, 1, False)
    assert len(first.picks) == 40
    for block_rows, threads, shuffled in ((8_192, 2, True), (64, 2, False)):
        again = selected(strategy, block_rows, threads, shuffled)
        assert [(p.image_id, p.rank, p.arm, p.reason) for p in again.picks] == [
            (p.image_id, p.rank, p.arm, p.reason) for p in first.picks
        ]


@pytest.mark.parametrize(
    "spec", [FilterSpec(discard_share=0.4, audit=9), FilterSpec(max_loss_share=0.2), FilterSpec(min_proportion=0.3)]
)
def test_the_same_decisions(spec: FilterSpec) -> None:
    _, _, known = world()
    training = known.training
    mentions = [
        LabeledImage(image, labels, chance)
        for image, labels, chance in zip(training.ids, training.labels, training.probabilities.tolist(), strict=True)
    ]
    labeled = LabeledVectors(mentions, training.ids, training.vectors)
    answers = []
    for threads, order in ((1, np.arange(13)), (2, np.random.default_rng(4).permutation(13))):
        names, rows = rows_of(order)
        with threadpool_limits(threads):
            result = finish(filter_pool(spec, names, rows, labeled))
        answers.append((dict(zip(result.ids, result.decisions.tolist(), strict=True)), result.summary))
    assert answers[0] == answers[1]
