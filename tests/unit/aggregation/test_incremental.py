# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch of answers after a fit: the state goes on, and comes close to a full fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gandt.domain.aggregation.blend import fit_blend
from gandt.domain.aggregation.incremental import fit_crowd, sweep_crowd, update_crowd
from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.votes import NO_GOLD, Votes, count_votes
from gandt.domain.errors import InvalidInput
from tests.unit.aggregation.builders import crowd, table


def planted() -> tuple[Votes, Votes, Votes]:
    """All votes, the first ones on all but the last five images, and the rest."""
    rows, _ = crowd(400, 3, 5, 3)
    every = count_votes(table(rows), AggregateSpec(), {}).votes
    assert isinstance(every, Votes)
    new = (np.random.default_rng(0).random(len(every.item)) < 0.01) | (every.item >= every.items - 5)
    first = _kept(every, ~new)
    return every, replace(first, item_ptr=first.item_ptr[:-5], gold=first.gold[:-5]), _kept(every, new)


def _kept(votes: Votes, keep: np.ndarray) -> Votes:
    item = votes.item[keep]
    pointers = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=votes.items))])
    return replace(votes, item_ptr=pointers, item=item, worker=votes.worker[keep], label=votes.label[keep])


def test_the_first_fit_is_that_of_blend() -> None:
    every, _, _ = planted()
    fitted = fit_crowd(every, FitOptions())
    assert np.array_equal(fitted.posterior(), fit_blend(every, FitOptions()).posterior)
    assert fitted.full.counts.sum() == pytest.approx(len(every.item))


def test_an_update_comes_close_to_a_full_fit_and_sweeps_come_closer() -> None:
    every, first, more = planted()
    full = fit_blend(every, FitOptions()).posterior
    updated = update_crowd(fit_crowd(first, FitOptions()), more)
    swept = sweep_crowd(updated, every, FitOptions())
    far, near = ((np.abs(c.posterior() - full).max(axis=1) > 1e-2).mean() for c in (updated, swept))
    assert near <= 0.005
    assert near < far <= 0.15
    assert (swept.posterior().argmax(axis=1) == full.argmax(axis=1)).mean() >= 0.995
    assert updated.full.counts.sum() == pytest.approx(len(every.item))
    assert (updated.fitted, updated.added) == (len(first.item), len(more.item))


def test_two_batches_are_stale_sooner_than_one_and_an_empty_one_changes_nothing() -> None:
    _, first, more = planted()
    start = fit_crowd(first, FitOptions())
    none = _kept(more, np.zeros(len(more.item), np.bool_))
    same = update_crowd(start, none)
    assert np.array_equal(same.posterior()[: first.items], start.posterior())
    assert np.allclose(same.posterior().sum(axis=1), 1)
    assert not update_crowd(start, more).stale
    assert replace(start, added=len(first.item) // 10).stale


def test_gold_that_comes_later_holds() -> None:
    _, first, more = planted()
    gold = np.full(more.items, NO_GOLD, np.int32)
    gold[[0, 7]] = 2
    updated = update_crowd(fit_crowd(first, FitOptions()), replace(more, gold=gold))
    assert (updated.posterior()[[0, 7], 2] == 1).all()
    again = update_crowd(updated, _kept(more, np.zeros(len(more.item), np.bool_)))
    assert (again.posterior()[[0, 7], 2] == 1).all()


def test_votes_that_do_not_fit_the_state_are_refused() -> None:
    every, first, more = planted()
    fitted = fit_crowd(every, FitOptions())
    with pytest.raises(InvalidInput):
        update_crowd(fitted, replace(first, gold=first.gold))
    with pytest.raises(InvalidInput):
        update_crowd(fitted, replace(more, classes=4))
    with pytest.raises(InvalidInput):
        fit_crowd(_kept(every, np.zeros(len(every.item), np.bool_)), FitOptions())
