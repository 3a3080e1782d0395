# SPDX-License-Identifier: GPL-3.0-or-later
"""How far each worker agrees with the others, the own vote left out of what it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.model import SMALLEST, weighted_count
from gandt.domain.aggregation.one_coin import log_odds, vote_scores
from gandt.domain.aggregation.two_coin import label_scores, rates, vote_scores_of
from gandt.domain.aggregation.votes import NO_GOLD, SetVotes, Votes

SURE = 0.9
"""An image measures a worker when the others' verdict on it has at least this probability (or it is gold)."""

_BLOCK = 65_536
_SURE_LEAN = float(np.log(SURE / (1 - SURE)))


@dataclass(frozen=True, slots=True)
class Reliability:
    """Agreement with the others.

    Attributes:
        agreed: f64[W] sum of agreements, each in [0, 1]; `scored` f64[W] images they were measured on.
        gold_right, gold_given: f64[W] gold images answered right, and answered.
    """

    agreed: NDArray[np.float64]
    scored: NDArray[np.float64]
    gold_right: NDArray[np.float64]
    gold_given: NDArray[np.float64]

    def value(self) -> NDArray[np.float64]:
        """f64[W] in [0, 1]; NaN where nothing measures the worker."""
        return np.where(self.scored > 0, self.agreed / np.maximum(self.scored, 1), np.nan)


def measure(votes: Votes, accuracy: NDArray[np.float64]) -> Reliability:
    """Compares each vote with what the other voters of the item, weighed by accuracy, say.

    Args:
        votes: one label each.
        accuracy: f64[W] estimated accuracy; NaN counts as chance.
    """
    if votes.classes < 2:
        # One class only: everyone agrees, as far as anyone else answered.
        others = (votes.sizes()[votes.item] > 1).astype(np.float64)
        return _tally(votes, np.ones(len(votes.item)), others, votes.gold[votes.item] != NO_GOLD)
    weight = log_odds(np.where(np.isnan(accuracy), 1 / votes.classes, accuracy), votes.classes)
    scores = vote_scores(votes, weight)
    agrees = np.zeros(len(votes.item))
    sure = np.zeros(len(votes.item))
    for start in range(0, len(votes.item), _BLOCK):
        part = slice(start, start + _BLOCK)
        item, label = votes.item[part], votes.label[part]
        rest = scores[item]  # [B, K]
        rows = np.arange(len(item))
        rest[rows, label] -= weight[votes.worker[part]]
        rest -= rest.max(axis=1, keepdims=True)
        top = 1.0 / np.exp(rest).sum(axis=1)  # probability of the others' best class
        agrees[part] = rest[rows, label] >= 0
        sure[part] = top >= SURE
    gold = votes.gold[votes.item]
    known = gold != NO_GOLD
    agrees[known] = votes.label[known] == gold[known]
    sure[known] = 1.0
    return _tally(votes, agrees, sure, known)


def measure_sets(votes: SetVotes, posterior: NDArray[np.float64]) -> Reliability:
    """The same for sets: agreement is the mean of the shares of labels rightly ticked and rightly left out.

    So an answer that ticks everything, nothing, or at random scores about one half on an image that has labels. Labels
    on which the others are not sure do not count.

    Args:
        votes: a set each.
        posterior: f64[I, K] probability of each label.
    """
    n = len(votes.item)
    hits, wanted, rejects, unwanted = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    whole = np.ones(n, np.bool_)
    known = votes.has_gold[votes.item]
    alone = votes.sizes()[votes.item] < 2
    for label in range(votes.classes if n else 0):
        binary = votes.binary(label)
        hit, reject = rates(posterior[:, label], binary)
        totals = label_scores(binary, hit, reject)
        no, yes = vote_scores_of(binary, hit, reject)
        rate = np.clip(posterior[:, label].mean(), SMALLEST, 1 - SMALLEST)
        lean = (totals[binary.item, 1] - yes) - (totals[binary.item, 0] - no) + np.log(rate / (1 - rate))
        others = np.where(known, votes.gold[binary.item, label], lean > 0)
        sure = known | ((np.abs(lean) >= _SURE_LEAN) & ~alone)
        says = binary.label == 1
        hits += says & others & sure
        wanted += others & sure
        rejects += ~says & ~others & sure
        unwanted += ~others & sure
        whole &= says == others
    parts = (wanted > 0).astype(np.float64) + (unwanted > 0)
    agrees = (hits / np.maximum(wanted, 1) + rejects / np.maximum(unwanted, 1)) / np.maximum(parts, 1)
    return _tally(votes, agrees, (parts > 0).astype(np.float64), known, whole)


def _tally(
    votes: Votes | SetVotes,
    agrees: NDArray[np.float64],
    sure: NDArray[np.float64],
    known: NDArray[np.bool_],
    whole: NDArray[np.bool_] | None = None,
) -> Reliability:
    def total(mass: NDArray[np.float64]) -> NDArray[np.float64]:
        return weighted_count(votes.worker, mass, votes.workers)

    right = agrees if whole is None else whole.astype(np.float64)
    gold = known.astype(np.float64)
    return Reliability(total(agrees * sure), total(sure), total(right * gold), total(gold))
