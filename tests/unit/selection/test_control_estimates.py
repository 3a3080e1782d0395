# SPDX-License-Identifier: GPL-3.0-or-later
"""What control draws allow to say: prevalence without bias, and a recall bound that holds at every look."""

from __future__ import annotations

import numpy as np
import pytest

from gandt.domain.errors import InvalidInput
from gandt.domain.selection.prevalence import ControlDraw, prevalence
from gandt.domain.selection.recall_bound import RecallBound, recall_bound


def campaign(
    rng: np.random.Generator, images: int, targets: int, control: int, main: int, skill: float, rounds: int
) -> tuple[list[ControlDraw], list[int]]:
    """Counts only: each round a uniform control draw, then main picks that find targets `skill` times as often."""
    pool, left, found = images, targets, 0
    draws, found_after = [], []
    for _ in range(rounds):
        hits = int(rng.hypergeometric(left, pool - left, control))
        draws.append(ControlDraw(pool, control, hits, found))
        pool, left, found = pool - control, left - hits, found + hits
        share = min(skill * left / pool, 1.0)
        hits = min(int(rng.binomial(main, share)), left)
        pool, left, found = pool - main, left - hits, found + hits
        found_after.append(found)
    return draws, found_after


def test_prevalence_is_unbiased_although_ranking_empties_the_pool_of_targets() -> None:
    rng = np.random.default_rng(5)
    errors, inside = [], 0
    for _ in range(2_000):
        draws, _ = campaign(rng, 2_000, 60, 10, 90, 8.0, 8)
        estimate = prevalence(draws, 2_000)
        assert estimate is not None
        errors.append(estimate.total - 60)
        inside += abs(estimate.total - 60) <= 2 * estimate.standard_error
        assert estimate.drawn == 80
    standard_error = np.std(errors) / np.sqrt(len(errors))
    assert abs(np.mean(errors)) < 3 * standard_error
    assert inside / 2_000 > 0.9


def test_the_bound_makes_false_claims_in_at_most_alpha_of_campaigns_over_all_looks() -> None:
    rng = np.random.default_rng(1)
    alpha, false_claims = 0.1, 0
    for _ in range(150):
        images, targets = 1_200, 40
        draws, found = campaign(rng, images, targets, 15, 35, 6.0, 20)
        bound = RecallBound(images, alpha)
        wrong = False
        for draw, after in zip(draws, found, strict=True):
            bound.add(draw)
            wrong = wrong or bound.recall(after) > after / targets + 1e-12
        false_claims += wrong
    assert false_claims / 150 <= alpha + 0.03


def test_the_bound_is_worth_something() -> None:
    """With 1,000 of 1,500 images drawn without a target among the last 900, most of what was found is all there is."""
    draws = [ControlDraw(1_480, 100, 2, 20)] + [ControlDraw(1_380 - 100 * n, 100, 0, 22) for n in range(9)]
    assert recall_bound(draws, 22, 1_500, 0.1) >= 0.75
    assert recall_bound(draws[:1], 22, 1_500, 0.1) < 0.5


def test_the_bound_only_tightens_and_everything_drawn_means_everything_known() -> None:
    rng = np.random.default_rng(2)
    draws, _ = campaign(rng, 500, 20, 10, 20, 4.0, 12)
    bound = RecallBound(500)
    most = [500]
    for draw in draws:
        bound.add(draw)
        most.append(bound.most_targets())
    assert most == sorted(most, reverse=True)
    assert recall_bound([ControlDraw(50, 50, 3, 10)], 13, 60) == 1.0
    assert recall_bound([], 5, 100) == 0.05
    assert recall_bound([ControlDraw(10, 10, 0, 0)], 0, 10) == 1.0


def test_without_draws_there_is_no_estimate() -> None:
    assert prevalence([], 100) is None


def test_impossible_draws_are_refused() -> None:
    with pytest.raises(InvalidInput):
        ControlDraw(pool=10, drawn=11, targets=0, found_before=0)
    with pytest.raises(InvalidInput):
        RecallBound(10).add(ControlDraw(pool=10, drawn=5, targets=0, found_before=1))
    with pytest.raises(InvalidInput):
        RecallBound(10, alpha=1.0)
