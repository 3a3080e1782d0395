# SPDX-License-Identifier: GPL-3.0-or-later
"""What control draws prove: strata, phases, forecasts and the words of the claim."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.selection.forecast import forecast
from gandt.domain.selection.phases import Phase, RoundYield, next_phase
from gandt.domain.selection.prevalence import ControlDraw
from gandt.domain.selection.proof import Sampled, Sensitivity, binomial_low, floor_percent, proof_of
from gandt.domain.selection.recall_bound import SHARES, RecallBound, recall_bound


def plain_bound(draws: list[ControlDraw], images: int, alpha: float) -> int:
    """K_up word for word, one supposed number after the other, without dropping any."""
    from math import ceil, comb

    def chance(draw: ControlDraw, left: int) -> float:
        if not 0 <= left <= draw.pool:
            return 0.0
        return (
            comb(left, draw.targets) * comb(draw.pool - left, draw.drawn - draw.targets) / comb(draw.pool, draw.drawn)
        )

    most, refuted = 0, set()
    ratios = {k: [1.0] * len(SHARES) for k in range(images + 1)}
    for draw in draws:
        for supposed, own in ratios.items():
            under = chance(draw, supposed - draw.found_before)
            if under == 0.0:
                refuted.add(supposed)
            if supposed in refuted:
                continue
            for place, share in enumerate(SHARES):
                own[place] *= chance(draw, ceil(share * supposed - 1e-9) - draw.found_before) / under
            if sum(own) / len(own) >= 1 / alpha:
                refuted.add(supposed)
        most = max((k for k in ratios if k not in refuted), default=0)
    return most


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_fast_bound_is_the_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images, targets = 60, int(rng.integers(0, 20))
    pool, left, found, draws = images, targets, 0, []
    for _ in range(5):
        drawn = int(rng.integers(1, 9))
        hits = int(rng.hypergeometric(left, pool - left, drawn))
        draws.append(ControlDraw(pool, drawn, hits, found))
        pool, left, found = pool - drawn, left - hits, found + hits
    bound = RecallBound(images, 0.2)
    for draw in draws:
        bound.add(draw)
    assert bound.most_targets() == plain_bound(draws, images, 0.2)


def test_a_pool_of_millions_is_bounded_a_little_more_loosely_and_never_more_tightly() -> None:
    draws = [ControlDraw(1_000_000, 20_000, 400, 0)]
    most = round(400 / recall_bound(draws, 400, 1_000_000, 0.1))
    assert 20_000 < most < 24_500
    small = [ControlDraw(20_000, 400, 8, 0)]
    assert recall_bound(small, 8, 20_000, 0.1) < 0.02


def samples(rounds: int = 6, pool: int = 900, control: int = 50, hits: int = 0, stratum: int = 1) -> list[Sampled]:
    return [
        Sampled(n + 1, 1, stratum, pool - 100 * n, control, hits if n == 0 else 0, 50, 10 if n == 0 else 0)
        for n in range(rounds)
    ]


def test_the_claim_says_what_it_rests_on_and_is_of_consensus_labels() -> None:
    proof = proof_of(samples(hits=1), seeds=5)
    assert (proof.found, proof.control, proof.control_targets, proof.strata) == (16, 300, 1, 1)
    assert proof.recall == proof.found / proof.most_targets
    assert "with 90% confidence at least" in proof.sentence
    assert "(of consensus labels)" in proof.sentence
    assert proof.total is not None
    assert proof.gain is not None
    assert proof.gain > 1
    assert proof.gain_low is not None
    assert proof.gain_low < proof.gain


def test_without_control_draws_nothing_is_proven() -> None:
    proof = proof_of([Sampled(1, 1, 1, 90, 0, 0, 10, 5)], seeds=0)
    assert proof.recall == 0.0
    assert "nothing is proven" in proof.sentence
    assert proof_of([], seeds=3).sentence.startswith("nothing is proven")


def test_a_pick_without_a_label_counts_as_a_target_that_was_not_found() -> None:
    rows = samples(hits=1)
    proof, doubtful = proof_of(rows, 5), proof_of(rows, 5, unresolved=4)
    assert doubtful.most_targets == proof.most_targets + 4
    assert doubtful.recall < proof.recall


def test_arrivals_are_bounded_apart_and_nothing_of_them_is_claimed_from_older_draws() -> None:
    old = samples(hits=1)
    proof = proof_of(old, 5)
    untouched = proof_of([*old, Sampled(7, 1, 7, 400, 0, 0)], 5)
    assert untouched.strata == 2
    assert untouched.most_targets >= proof.most_targets + 400  # any of the new ones may be wanted
    assert untouched.total is None
    drawn = proof_of([*old, Sampled(7, 1, 7, 400, 200, 2)], 5)
    assert proof.most_targets < drawn.most_targets < untouched.most_targets


def test_strata_keep_the_promise() -> None:
    """Two strata, looked at after every round: false claims stay below alpha."""
    rng, wrong = np.random.default_rng(4), 0
    for _ in range(60):
        left, pools, rows, false = {1: 20, 3: 8}, {1: 500, 3: 150}, [], False
        found = 0
        for number in range(1, 7):
            for stratum in (1, 3):
                if number < stratum:
                    continue
                drawn = int(pools[stratum] * 0.15)
                hits = int(rng.hypergeometric(left[stratum], pools[stratum] - left[stratum], drawn))
                rows.append(Sampled(number, 1, stratum, pools[stratum], drawn, hits))
                left[stratum], pools[stratum], found = left[stratum] - hits, pools[stratum] - drawn, found + hits
            truth = 20 + (8 if number >= 3 else 0)
            false = false or proof_of(rows, 0).recall > found / truth + 1e-12
        wrong += false
    assert wrong <= 0.1 * 60 + 5


def test_gold_turns_the_bound_into_one_of_the_truth() -> None:
    few, many = Sensitivity(5, 5), Sensitivity(38, 40)
    assert proof_of(samples(hits=1), 5, sensitivity=few).true_recall is None
    proof = proof_of(samples(hits=1), 5, sensitivity=many)
    assert proof.true_recall is not None
    assert proof.true_recall < proof.recall
    assert "truly wanted" in proof.sentence
    assert "38 of 40 gold images" in proof.sentence


def test_words_claim_no_more_than_figures() -> None:
    assert floor_percent(0.79999) == "79.9 %"
    assert floor_percent(0.8) == "80.0 %"
    assert binomial_low(0, 10, 0.05) == 0.0
    assert binomial_low(1_900, 2_000, 0.05) == pytest.approx(0.9415, abs=0.001)


def test_proving_begins_when_the_ranking_finds_no_more_than_chance_and_goes_on() -> None:
    rich, empty = RoundYield(45, 20, 5, 0), RoundYield(45, 0, 5, 0)
    assert next_phase([]) is Phase.FIND
    assert next_phase([rich, rich]) is Phase.FIND
    assert next_phase([rich, empty]) is Phase.FIND
    assert next_phase([rich, empty, empty]) is Phase.PROVE
    assert next_phase([rich, empty, empty, RoundYield(0, 0, 50, 3), RoundYield(0, 0, 50, 0)]) is Phase.PROVE
    assert next_phase([RoundYield(50, 0, 0, 0)] * 3) is Phase.FIND  # nothing to compare with


def test_a_forecast_says_when_labeling_all_is_better() -> None:
    early = forecast(3_500, 5, 70.0, 0.8, 0.95)
    assert 150 < early.find < 500
    assert 500 < early.prove < 1_300
    assert early.is_worth_it
    assert "not worth it" not in early.sentence
    strict = forecast(3_500, 5, 70.0, 0.95, 0.95)
    assert strict.prove > early.prove
    assert not strict.is_worth_it
    assert "not worth it: label all 3,500" in strict.sentence
    unknown = forecast(20_000, 0, None)
    assert unknown.assumed
    assert "if 400 images are wanted" in unknown.sentence
    assert forecast(0, 5, 5.0).prove == 0
    done = forecast(100, 5, 5.0, proving=True, drawn=(ControlDraw(900, 800, 0, 5),))
    assert done.find == 0
    assert done.prove <= 100


def test_once_all_is_labeled_all_is_known() -> None:
    rows = [Sampled(1, 1, 1, 40, 4, 0, 16, 9), Sampled(2, 1, 1, 20, 2, 0, 18, 3)]
    assert proof_of(rows, 2).recall == 1.0
    assert proof_of(rows[:1], 2).most_targets <= 11 + 20
    assert proof_of(rows, 2, unresolved=1).recall == 14 / 15
