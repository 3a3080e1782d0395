# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit's bound: true at every look, not much wider than the exact one of a single look, its price known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import beta

from gandt.domain.aggregation.audit import error_bounds, evidence, judgments_needed
from gandt.domain.errors import InvalidInput


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5])
def test_it_is_violated_in_at_most_5_percent_of_audits(share: float) -> None:
    rng = np.random.default_rng([1, int(share * 100)])
    wrong = np.cumsum(rng.random((1000, 600)) < share, axis=1)
    judged = np.arange(1, 601)
    ever = (evidence(judged, wrong, share) >= math.log(20)).any(axis=1)  # the true share was called impossible
    assert ever.sum() <= 73


def test_it_holds_where_a_crowd_is_wrong_together() -> None:
    # 300 settled images, 36 of them settled wrong by everybody; drawn without replacement.
    rng = np.random.default_rng(2)
    labels = np.arange(300) < 36
    violated = sum(error_bounds(rng.permutation(labels)[:150])[-1] < 0.12 for _ in range(1000))
    assert violated <= 73


@pytest.mark.parametrize("judged", [30, 60, 100, 235, 500, 1000])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.02, 0.05, 0.1, 0.3])
def test_it_is_at_most_half_wider_than_the_exact_one(judged: int, share: float) -> None:
    wrong = int(judged * share)
    rows = np.zeros(judged, bool)
    rows[np.linspace(0, judged - 1, wrong).astype(int)] = True
    exact = beta.ppf(0.95, wrong + 1, judged - wrong)
    assert error_bounds(rows)[-1] <= 1.5 * exact


def test_it_never_rises_and_starts_at_everything() -> None:
    bounds = error_bounds([True, False, False, True, *[False] * 200])
    assert bounds[0] == 1
    assert (np.diff(bounds) <= 0).all()
    assert len(error_bounds([])) == 0
    assert error_bounds([True] * 9)[-1] == pytest.approx(1)


def test_the_price_is_what_the_bound_takes() -> None:
    assert judgments_needed(0.05) == 73
    assert judgments_needed(0.05, 0.02) == 243
    assert error_bounds([False] * 73)[-1] <= 0.05 < error_bounds([False] * 72)[-1]
    assert judgments_needed(0.05, alpha=0.2) < 73


def test_what_cannot_be_shown_is_refused() -> None:
    for target, share in ((0.05, 0.05), (1.0, 0.0), (0.0, 0.0), (0.0500001, 0.05)):
        with pytest.raises(InvalidInput):
            judgments_needed(target, share)
    with pytest.raises(InvalidInput):
        error_bounds([False], alpha=1)
