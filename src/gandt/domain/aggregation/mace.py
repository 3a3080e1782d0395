# SPDX-License-Identifier: GPL-3.0-or-later
"""MACE: a worker looks with some probability and is right then; else he answers by a habit of his own.

One number and one distribution a worker tell a careless or one-label worker from an honest one with far fewer answers
than a confusion matrix takes; it is the strongest single model where classes are many.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.dawid_skene import MAX_CONFUSION_CELLS
from gandt.domain.aggregation.model import (
    SMALLEST,
    CodeSums,
    Fit,
    FitOptions,
    clamp_gold,
    class_prior,
    first_posterior,
    settle,
    softmax,
    weighted_count,
)
from gandt.domain.aggregation.one_coin import EXTRA_ITEMS
from gandt.domain.aggregation.votes import Votes

LOOK_STRENGTH = 4.0  # answers of the average worker that a worker's care starts with
HABIT_STRENGTH = 10.0  # careless answers of the whole crowd that a worker's habit starts with
ROUNDS = 2  # of care and habit for each update of the labels


class _Habits:
    """Care f64[W] and habit f64[W, K] of each worker, re-estimated from the right votes of each code."""

    def __init__(self, votes: Votes, sums: CodeSums) -> None:
        self._sums, self._given = sums, np.bincount(votes.worker, minlength=votes.workers)
        raw = votes.worker.astype(np.int64) * votes.classes + votes.label
        self._of_code = np.bincount(raw, minlength=votes.workers * votes.classes)[
            sums.worker * votes.classes + sums.label
        ]
        common = np.bincount(votes.label, minlength=votes.classes) + 1.0
        self.care = np.full(votes.workers, 0.5)
        self.habit = np.tile(common / common.sum(), (votes.workers, 1))

    def update(self, right: NDArray[np.float64]) -> None:
        """From f64[C] expected right votes of each code."""
        worker, label = self._sums.worker, self._sums.label
        for _ in range(ROUNDS):
            care = self.care[worker]
            looked = right * care / np.maximum(care + (1 - care) * self.habit[worker, label], SMALLEST)
            by_worker = weighted_count(worker, looked, self._sums.workers)
            crowd = (by_worker.sum() + 1.0) / (self._given.sum() + 2.0)
            self.care = (by_worker + LOOK_STRENGTH * crowd) / (self._given + LOOK_STRENGTH)
            careless = np.zeros_like(self.habit)
            careless[worker, label] = self._of_code - looked
            common = careless.sum(axis=0) + 1.0
            self.habit = careless + HABIT_STRENGTH * common / common.sum()
            self.habit /= self.habit.sum(axis=1, keepdims=True)

    def weights(self) -> NDArray[np.float64]:
        """f64[C]: what a vote adds to the log score of its class over the others; never negative."""
        worker, label = self._sums.worker, self._sums.label
        care = self.care[worker]
        result: NDArray[np.float64] = np.log1p(care / np.maximum((1 - care) * self.habit[worker, label], SMALLEST))
        return result


def fit_mace(votes: Votes, options: FitOptions) -> Fit:
    """EM for labels, care and habits, with priors pooled over workers; no restarts, nothing is drawn.

    Args:
        votes: one label each.
        options: start, tolerance, iterations.
    Returns:
        Accuracy is the balanced one: care plus what the habit hits.
    Source:
        D. Hovy et al. 2013, "Learning Whom to Trust with MACE"; there priors are not pooled.
    """
    start = first_posterior(votes, options)
    if votes.classes < 2 or not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))
    sums = CodeSums(votes)
    habits = _Habits(votes, sums)
    codes = np.searchsorted(
        sums.worker * votes.classes + sums.label, votes.worker.astype(np.int64) * votes.classes + votes.label
    )
    cells = votes.cells()

    def step(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        habits.update(weighted_count(codes, posterior.ravel()[cells], len(sums.label)))
        scores = weighted_count(cells, habits.weights()[codes], posterior.size).reshape(posterior.shape)
        scores += np.log(class_prior(posterior, votes, EXTRA_ITEMS))
        return clamp_gold(softmax(scores), votes)

    posterior, iterations, converged = settle(step, start, options)
    accuracy = habits.care + (1 - habits.care) / votes.classes
    return Fit(posterior, accuracy, _confusion(habits, votes), iterations, converged)


def _confusion(habits: _Habits, votes: Votes) -> NDArray[np.float64] | None:
    if votes.workers * votes.classes**2 > MAX_CONFUSION_CELLS:
        return None
    by_habit = ((1 - habits.care)[:, None] * habits.habit)[:, None, :]
    result: NDArray[np.float64] = by_habit + habits.care[:, None, None] * np.eye(votes.classes)
    return result
