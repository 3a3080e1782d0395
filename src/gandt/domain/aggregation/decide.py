# SPDX-License-Identifier: GPL-3.0-or-later
"""From posteriors to labels and a status: certain, uncertain, tied or unlabeled. Ties are shown, never drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.votes import NO_GOLD, SetVotes, Votes
from gandt.domain.datasets import LabelStatus

TIE = 1e-9  # posteriors this close are equal


@dataclass(frozen=True, slots=True)
class Decisions:
    """What is decided about I items.

    Attributes:
        chosen: bool[I, K] the label, the labels, or the tied ones; none when unlabeled.
        confidence: f64[I] in [0, 1]; 0 when unlabeled.
        certain, tied, unlabeled, gold: bool[I]; uncertain is none of the first three.
        answers, agreeing: i64[I] votes counted, and those that contain the label (set).
    """

    chosen: NDArray[np.bool_]
    confidence: NDArray[np.float64]
    certain: NDArray[np.bool_]
    tied: NDArray[np.bool_]
    unlabeled: NDArray[np.bool_]
    gold: NDArray[np.bool_]
    answers: NDArray[np.int64]
    agreeing: NDArray[np.int64]

    def status(self, item: int) -> LabelStatus:
        """The status of one item."""
        if self.unlabeled[item]:
            return LabelStatus.UNLABELED
        if self.tied[item]:
            return LabelStatus.TIED
        return LabelStatus.CERTAIN if self.certain[item] else LabelStatus.UNCERTAIN


def decide(votes: Votes, posterior: NDArray[np.float64], spec: AggregateSpec) -> Decisions:
    """One label an item; certain when enough votes agree with it and its posterior is high enough.

    Args:
        votes: the votes counted.
        posterior: f64[I, K].
    """
    answers = votes.sizes()
    gold = votes.gold != NO_GOLD
    if not votes.classes:
        return _nothing(votes.items, answers)
    top = posterior.max(axis=1, initial=0.0)
    chosen = posterior >= top[:, None] - TIE
    unlabeled = (answers == 0) & ~gold
    chosen[unlabeled] = False
    tied = (chosen.sum(axis=1) > 1) & ~gold
    agreeing = np.where(chosen, votes.counts(), 0).max(axis=1, initial=0).astype(np.int64)
    certain = gold | ((agreeing >= spec.min_answers) & (top > spec.min_proportion) & ~tied & ~unlabeled)
    return Decisions(chosen, np.where(unlabeled, 0.0, top), certain, tied, unlabeled, gold, answers, agreeing)


def decide_sets(votes: SetVotes, posterior: NDArray[np.float64], spec: AggregateSpec, by_share: bool) -> Decisions:
    """A label set an item: every label whose probability is above one half.

    The confidence is the probability of the set (labels taken as independent), or for shares that of its weakest
    label. Certain needs enough votes that agree about each label. An empty set is a verdict too: none of these.
    """
    answers = votes.sizes()
    gold = votes.has_gold
    if not votes.classes:
        return _nothing(votes.items, answers, labeled=answers > 0)
    unlabeled = (answers == 0) & ~gold
    half: NDArray[np.bool_] = np.abs(posterior - 0.5) <= TIE
    half[unlabeled | gold] = False
    chosen = (posterior > 0.5) | half
    chosen[unlabeled] = False
    tied: NDArray[np.bool_] = np.asarray(half.any(axis=1))
    sides = np.maximum(posterior, 1 - posterior)
    confidence = sides.min(axis=1) if by_share else np.exp(np.log(np.maximum(sides, 0.5)).sum(axis=1))
    agreeing = _containing(votes, chosen)
    yes = _mentions(votes)
    support = np.where(chosen, yes, answers[:, None] - yes).min(axis=1)
    enough = support >= spec.min_answers
    certain = gold | (enough & (confidence > spec.min_proportion) & ~tied & ~unlabeled)
    return Decisions(chosen, np.where(unlabeled, 0.0, confidence), certain, tied, unlabeled, gold, answers, agreeing)


def _mentions(votes: SetVotes) -> NDArray[np.int64]:
    """i64[I, K]: votes for each label."""
    item = np.repeat(votes.item.astype(np.int64), np.diff(votes.set_ptr))
    cells = np.bincount(item * votes.classes + votes.set_label, minlength=votes.items * votes.classes)
    return cells.reshape(votes.items, votes.classes).astype(np.int64)


def _containing(votes: SetVotes, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """i64[I]: votes that contain the chosen set; where it is empty, empty votes."""
    sizes = np.diff(votes.set_ptr)
    vote = np.repeat(np.arange(len(votes.item)), sizes)
    inside = np.bincount(vote, weights=chosen[votes.item[vote], votes.set_label], minlength=len(votes.item))
    wanted = chosen.sum(axis=1)[votes.item]
    agrees = np.where(wanted > 0, inside == wanted, sizes == 0)
    return np.bincount(votes.item[agrees], minlength=votes.items).astype(np.int64)


def _nothing(items: int, answers: NDArray[np.int64], labeled: NDArray[np.bool_] | None = None) -> Decisions:
    """Without any class: unlabeled, or (several labels) surely none of these."""
    yes = np.zeros(items, np.bool_) if labeled is None else labeled
    none = np.zeros(items, np.bool_)
    return Decisions(
        np.zeros((items, 0), np.bool_), yes.astype(np.float64), yes, none, ~yes, none, answers, answers * yes
    )
