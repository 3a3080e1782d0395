# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's filter, count for count, from cases captured by running it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.selection.filtering import Filtered, LabeledVectors, filter_pool
from gandt.domain.selection.pool import MemoryRows
from gandt.domain.selection.records import Decision, FilterSpec
from gandt.domain.selection.steps import finish
from tests.conftest import golden_cases

pytestmark = pytest.mark.golden
ATOL = {np.float64: 1e-12, np.float32: 1e-6}


def run(case: dict[str, Any], dtype: type[np.floating]) -> Filtered:
    labeled = np.array(case["labelled"], dtype)
    pool: NDArray[np.floating] = np.array(case["unlabelled"], dtype).reshape(-1, labeled.shape[1])
    rows = MemoryRows()
    rows.append(pool)
    mentions = [
        LabeledImage(name, tuple(labels)) for name, labels in zip(case["labelled_names"], case["labels"], strict=True)
    ]
    spec = FilterSpec(
        other_label=case["params"]["other_label"], min_proportion=case["params"]["min_proportion_to_discard"]
    )
    ids = [f"u{row:03d}.jpg" for row in range(len(pool))]
    return finish(filter_pool(spec, ids, rows, LabeledVectors(mentions, case["labelled_names"], labeled)))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("case", golden_cases("selection_compat"))
def test_original_rule_count_for_count(case: dict[str, Any], dtype: type[np.floating]) -> None:
    expected = case["expected"]
    if "error" in expected:
        with pytest.raises(InvalidInput) as caught:
            run(case, dtype)
        assert caught.value.reason == "OTHER_LABEL_MISSING"
        return
    got = run(case, dtype)
    by_decision = {
        decision: [
            image
            for block in got.blocks(5)
            for image, d in zip(block.image_ids, block.decisions, strict=True)
            if d is decision
        ]
        for decision in Decision
    }
    assert got.farther.tolist() == [int(n) for n in expected["n_farther"]]
    assert list(got.summary.labels) == sorted(expected["avg"])
    for column, label in enumerate(got.summary.labels):
        wanted = np.array(expected["avg"][label], np.float64)  # None becomes NaN
        np.testing.assert_allclose(got.distances[:, column], wanted, rtol=0, atol=ATOL[dtype])
    assert by_decision[Decision.DISCARD] == expected["discarded"]
    lost = not expected["discarded"] and not expected["remaining"]
    if lost:  # where the original forgets every image, all are undecided, with a warning
        assert len(by_decision[Decision.UNDECIDED]) == len(case["unlabelled"])
        assert bool(got.summary.warnings) == bool(case["unlabelled"])
    else:
        assert by_decision[Decision.KEEP] == expected["remaining"]
        assert not by_decision[Decision.UNDECIDED]
