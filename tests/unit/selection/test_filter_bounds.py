# SPDX-License-Identifier: GPL-3.0-or-later
"""What the filter proves about what it loses: bounds by control draws, and the audit of the discarded."""

from __future__ import annotations

from dataclasses import replace
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.datasets import Arm, LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.selection.audit import audit_bound, audit_draw
from gandt.domain.selection.filtering import LabeledVectors
from gandt.domain.selection.ranking_filter import loss_limit
from gandt.domain.selection.records import Decision, FilterSpec
from tests.unit.selection.make import blobs
from tests.unit.selection.test_filtering import decided, photos, run


def by_control(seed: int, drawn: int, spread: float = 0.9) -> tuple[list[str], np.ndarray, list[str], LabeledVectors]:
    """Images of two kinds that overlap; `drawn` of them were labeled by a uniform draw."""
    ids, matrix, names = blobs({"cat": 150, "x": 350}, seed, spread)
    known = np.random.default_rng(seed).permutation(500)[:drawn].tolist()
    mentions = [
        LabeledImage(ids[row], ("cat",) if names[row] == "cat" else ("Other",), arm=str(Arm.CONTROL)) for row in known
    ]
    rest = [row for row in range(500) if row not in set(known)]
    labeled = LabeledVectors(mentions, [ids[row] for row in known], matrix[known])
    return [ids[row] for row in rest], matrix[rest], [names[row] for row in rest], labeled


def test_a_bound_by_control_draws_holds_in_19_of_20_cases() -> None:
    broken, discarded = 0, 0
    for seed in range(40):
        ids, matrix, names, labeled = by_control(seed, 200)
        result = run(FilterSpec(max_loss_share=0.15), ids, matrix, labeled)
        wanted = [d is Decision.DISCARD for d, n in zip(decided(result).values(), names, strict=True) if n == "cat"]
        broken += float(np.mean(wanted)) > 0.15
        discarded += result.summary.discarded
        assert 0.0 <= result.summary.loss_bound <= 0.15
        assert not any("not bounded" in warning for warning in result.summary.warnings)
    assert broken <= 5  # 2 expected at most; above 5 with a chance of 1 %
    assert discarded > 40 * 50  # a bound that discards nothing would pass too


def test_too_few_control_draws_give_an_estimate_and_say_what_a_bound_needs() -> None:
    ids, matrix, _, labeled = by_control(0, 60)
    result = run(FilterSpec(max_loss_share=0.1), ids, matrix, labeled)
    assert any("needs 29 wanted images from control draws" in warning for warning in result.summary.warnings)
    assert result.summary.loss_bound > 0.1
    plain = run(FilterSpec(discard_share=0.5), *photos()[:2], photos()[3])
    assert plain.summary.loss_bound == -1.0  # none of them was drawn as control


def test_loss_limit_is_the_clopper_pearson_limit() -> None:
    assert [round(loss_limit(lost, 20), 4) for lost in (0, 1, 5, 19, 20)] == [0.1391, 0.2161, 0.4556, 0.9974, 1.0]


def test_audit_is_a_draw_of_the_discarded_whatever_their_order() -> None:
    ids, matrix, _, labeled = photos()
    spec = FilterSpec(discard_share=0.5, audit=20, seed=3)
    result = run(spec, ids, matrix, labeled)
    decisions = decided(result)
    assert len(set(result.summary.audit_ids)) == 20
    assert {decisions[image] for image in result.summary.audit_ids} == {Decision.DISCARD}
    assert result.summary.audit_bound == audit_bound(result.summary.discarded, 20)
    order = np.random.default_rng(0).permutation(len(ids))
    again = run(spec, [ids[row] for row in order], matrix[order], labeled)
    assert again.summary.audit_ids == result.summary.audit_ids
    assert run(replace(spec, seed=4), ids, matrix, labeled).summary.audit_ids != result.summary.audit_ids
    none = run(replace(spec, audit=0), ids, matrix, labeled).summary
    assert (none.audit_ids, none.audit_bound) == ((), 1.0)


def test_audit_works_with_the_originals_rule() -> None:
    ids, matrix, _, labeled = photos()
    result = run(FilterSpec(min_proportion=0.2, audit=5), ids, matrix, labeled)
    assert len(result.summary.audit_ids) == 5


def test_a_large_audit_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        run(FilterSpec(discard_share=0.5, audit=10_001), *photos()[:2], photos()[3])
    assert caught.value.reason == "BAD_COUNT"


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 3))
def test_audit_bound_is_the_largest_number_that_can_hide(discarded: int, audited: int, wanted: int) -> None:
    audited = min(audited, discarded)
    wanted = min(wanted, audited)

    def hides(among: int) -> bool:
        ways = sum(comb(among, x) * comb(discarded - among, audited - x) for x in range(wanted + 1) if audited - x >= 0)
        return ways >= 0.05 * comb(discarded, audited)

    possible = range(wanted, discarded - (audited - wanted) + 1)
    assert audit_bound(discarded, audited, wanted) == max(k for k in possible if hides(k)) / discarded


def test_audit_draw_takes_all_when_asked_for_more() -> None:
    assert sorted(audit_draw(["b", "a"], 5, 0)) == ["a", "b"]
    assert audit_bound(0, 0) == 0.0
