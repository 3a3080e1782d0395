# SPDX-License-Identifier: GPL-3.0-or-later
"""MACE, subtypes and the committee of four: each wins on the crowd it is for, and the committee holds on all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gandt.domain.aggregation.committee import MOST_MATRICES, member_weights
from tests.unit.aggregation.builders import Row, accuracy, run

Planted = Callable[[int], tuple[list[Row], dict[str, str]]]
MEMBERS = ("one-coin", "mace", "hierarchical", "subtypes")


def answered(truth: NDArray[np.int64], given: NDArray[np.int64]) -> tuple[list[Row], dict[str, str]]:
    """Rows and truth of i64[I] classes and i64[I, W] labels, -1 where a worker did not answer."""
    rows = [
        (f"i{item:04d}", f"w{worker:02d}", f"c{given[item, worker]}")
        for item, worker in np.argwhere(given >= 0).tolist()
    ]
    return rows, {f"i{item:04d}": f"c{label}" for item, label in enumerate(truth.tolist())}


def asked(given: NDArray[np.int64], each: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Leaves each image the answers of `each` workers."""
    left = np.argsort(rng.random(given.shape), axis=1)[:, each:]
    np.put_along_axis(given, left, -1, axis=1)
    return given


def habits(seed: int) -> tuple[list[Row], dict[str, str]]:
    """15 classes; a third of twelve workers answer by a habit of their own without looking."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 15, 400)
    care = np.where(np.arange(12) < 4, 0.05, 0.75)
    habit = rng.dirichlet(np.full(15, 0.3), 12)
    by_habit = np.stack([rng.choice(15, 400, p=habit[w]) for w in range(12)], 1)
    looked = rng.random((400, 12)) < care
    return answered(truth, asked(np.where(looked, truth[:, None], by_habit), 4, rng))


def misleading(seed: int) -> tuple[list[Row], dict[str, str]]:
    """Two classes; of one a third of the images are taken for the other by eight of twenty workers, together."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, 800)
    hard = (truth == 1) & (rng.random(800) < 0.35)
    fooled = np.arange(20) < 8
    right = np.where(hard[:, None] & fooled, 0.1, 0.88)
    return answered(truth, asked(np.where(rng.random((800, 20)) < right, truth[:, None], 1 - truth[:, None]), 9, rng))


def mean_accuracy(crowd: list[tuple[list[Row], dict[str, str]]], method: str) -> float:
    return float(np.mean([accuracy(run(rows, method=method), truth) for rows, truth in crowd]))


def test_mace_tells_habits_from_care_where_classes_are_many() -> None:
    crowds = [habits(seed) for seed in range(4)]
    mace = mean_accuracy(crowds, "mace")
    assert mace > mean_accuracy(crowds, "one-coin") + 0.01
    assert mace > mean_accuracy(crowds, "majority") + 0.05
    reports = {report.worker_id: report for report in run(crowds[0][0], method="mace").reports}
    careless = [reports[f"w{n:02d}"].estimated_accuracy or 0 for n in range(12)]
    assert max(careless[:4]) < 0.4 < min(careless[4:])


def test_subtypes_hold_where_a_kind_of_image_misleads_many() -> None:
    crowds = [misleading(seed) for seed in range(4)]
    wrong = {method: 1 - mean_accuracy(crowds, method) for method in ("subtypes", "hierarchical", "majority")}
    assert wrong["subtypes"] < 0.7 * wrong["hierarchical"] < 0.7 * wrong["majority"]


@pytest.mark.parametrize("plant", [habits, misleading])
def test_no_member_carries_the_committee_away(plant: Planted) -> None:
    crowds = [plant(seed) for seed in range(4)]
    committee = mean_accuracy(crowds, "committee")
    each = [mean_accuracy(crowds, member) for member in MEMBERS]
    assert committee > np.mean(each)
    assert committee > mean_accuracy(crowds, "majority")


@given(typical=st.floats(0, 1e6), classes=st.integers(2, 500))
def test_weights_of_the_members(typical: float, classes: int) -> None:
    one, mace, full, kinds = member_weights(typical, classes)
    assert one + mace + full + kinds == pytest.approx(1)
    assert min(one, mace, full, kinds) >= 0
    assert full + kinds <= MOST_MATRICES + 1e-9
    assert member_weights(0, classes) == (1, 0, 0, 0)
    assert member_weights(typical, 2)[1] == 0
