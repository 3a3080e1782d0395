# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch of new votes into a fitted blend, without fitting anew.

The state holds posteriors of images and expected counts of workers, not votes, so its size is that of images plus
workers. An image's posterior already weighs its old votes; the new ones multiply it: `update_crowd` sees new votes
only. What they say of the old voters, and through them of other images, needs the old votes: `sweep_crowd` carries it
through.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.blend import blended, typical_votes
from gandt.domain.aggregation.hierarchical import estimated, fit_hierarchical, log_errors
from gandt.domain.aggregation.model import Codes, CodeSums, FitOptions, clamp_gold, softmax
from gandt.domain.aggregation.one_coin import EXTRA_ITEMS, STRENGTH, balanced_accuracy, fit_one_coin, log_odds
from gandt.domain.aggregation.votes import NO_GOLD, Votes
from gandt.domain.errors import InvalidInput

SWEEPS = 3  # over new votes alone
ALL_SWEEPS = 8  # over all votes: 99.9 % of posteriors lie within 1e-2 of a full fit then
STALE_SHARE = 0.05  # new votes over fitted ones above which old estimates of workers are too old


@dataclass(frozen=True, slots=True)
class Part:
    """One of the two models: f64[I, K] posterior and f64[C, K] expected counts of the state's codes."""

    posterior: NDArray[np.float64]
    counts: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FittedCrowd:
    """What an update needs to know of all earlier votes; numbers of items and workers only grow.

    Attributes:
        code: i64[C] `worker * classes + given class` that occur, ascending.
        one, full: one-coin and hierarchical.
        gold: i32[I] known class or `NO_GOLD`.
        fitted, added: votes of the last full fit, and those since.
    """

    workers: int
    classes: int
    code: NDArray[np.int64]
    one: Part
    full: Part
    gold: NDArray[np.int32]
    fitted: int
    added: int = 0

    @property
    def stale(self) -> bool:
        """Whether a full fit is due."""
        return self.added > STALE_SHARE * self.fitted

    def posterior(self) -> NDArray[np.float64]:
        """f64[I, K] of the blend."""
        given = np.bincount(self.code // self.classes, weights=self.full.counts.sum(axis=1), minlength=self.workers)
        typical = typical_votes(np.rint(given).astype(np.int64))
        result = blended(self.one.posterior, self.full.posterior, typical, self.classes)
        known = np.flatnonzero(self.gold != NO_GOLD)
        result[known] = self.full.posterior[known]
        return result


def fit_crowd(votes: Votes, options: FitOptions) -> FittedCrowd:
    """Both models fitted in full; the posterior is that of `fit_blend`.

    Args:
        votes: at least one vote, and two classes.
    Raises:
        InvalidInput: there is nothing to fit.
    """
    if votes.classes < 2 or not len(votes.item):
        raise InvalidInput("no votes for two classes or more, so there is nothing to go on from", field="state")
    sums = CodeSums(votes)
    one, full = (fit(votes, options).posterior for fit in (fit_one_coin, fit_hierarchical))
    return FittedCrowd(
        votes.workers,
        votes.classes,
        sums.worker * votes.classes + sums.label,
        Part(one, sums.over_items(one)),
        Part(full, sums.over_items(full)),
        votes.gold,
        len(votes.item),
    )


def update_crowd(crowd: FittedCrowd, votes: Votes) -> FittedCrowd:
    """The crowd after more votes.

    Args:
        crowd: of earlier votes.
        votes: only the new ones, none of a worker who answered the item before, over all items and workers so far and
            newly named ones after them. Gold that is new here holds from now on.
    Raises:
        InvalidInput: another number of classes, or fewer items or workers than before.
    """
    old = len(crowd.gold)
    if votes.classes != crowd.classes or votes.items < old or votes.workers < crowd.workers:
        raise InvalidInput("the new votes do not go on from this state", field="state", reason="BAD_STATE")
    raw = votes.worker.astype(np.int64) * votes.classes + votes.label
    code = np.union1d(crowd.code, raw)
    known = np.concatenate([crowd.gold, np.full(votes.items - old, NO_GOLD, np.int32)])
    gold = np.where(votes.gold != NO_GOLD, votes.gold, known).astype(np.int32)
    votes = replace(votes, gold=gold)
    codes = Codes(code, votes.workers, votes.classes)
    place, before = np.searchsorted(code, raw), np.searchsorted(code, crowd.code)

    def one_coin(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        accuracy = balanced_accuracy(codes, counts, codes.over_codes(counts), STRENGTH)
        odds = np.zeros((len(votes.item), votes.classes))
        odds[np.arange(len(votes.item)), votes.label] = log_odds(accuracy, votes.classes)[votes.worker]
        return odds

    def full(counts: NDArray[np.float64]) -> NDArray[np.float64]:
        return log_errors(estimated(codes, counts), codes)[place]

    return FittedCrowd(
        votes.workers,
        votes.classes,
        code,
        _updated(crowd.one, one_coin, votes, place, before, len(code)),
        _updated(crowd.full, full, votes, place, before, len(code)),
        gold,
        crowd.fitted,
        crowd.added + len(votes.item),
    )


def sweep_crowd(crowd: FittedCrowd, votes: Votes, options: FitOptions, sweeps: int = ALL_SWEEPS) -> FittedCrowd:
    """The crowd after a few sweeps over all its votes, which bring posteriors close to those of a full fit.

    Args:
        crowd: as `update_crowd` left it.
        votes: all votes, old and new, numbered as the crowd's items and workers.
        options: check and tolerances; the start is the crowd's.
    """
    sums = CodeSums(votes)
    parts = []
    for part, fit in ((crowd.one, fit_one_coin), (crowd.full, fit_hierarchical)):
        posterior = fit(votes, replace(options, start=part.posterior, iterations=sweeps)).posterior
        parts.append(Part(posterior, sums.over_items(posterior)))
    return replace(crowd, one=parts[0], full=parts[1])


def _updated(
    part: Part,
    weigh: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    votes: Votes,
    place: NDArray[np.int64],
    before: NDArray[np.int64],
    codes: int,
) -> Part:
    """The part with the new votes; `weigh` gives f64[V, K] log likelihoods of them under f64[C, K] counts."""
    old, classes = part.posterior.shape
    counts = np.zeros((codes, classes))
    counts[before] = part.counts
    posterior = np.empty((votes.items, classes))
    posterior[:old] = part.posterior
    mass = part.posterior.sum(axis=0) + EXTRA_ITEMS
    posterior[old:] = mass / mass.sum()
    touched = np.flatnonzero(votes.sizes() > 0)
    base = np.log(np.maximum(posterior[touched], np.finfo(np.float64).tiny))
    starts = votes.item_ptr[touched]
    now = counts
    for _ in range(SWEEPS):
        if len(touched):
            posterior[touched] = softmax(base + np.add.reduceat(weigh(now), starts, axis=0))
        clamp_gold(posterior, votes)
        now = counts.copy()
        np.add.at(now, place, posterior[votes.item])
    return Part(posterior, now)
