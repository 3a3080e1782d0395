# SPDX-License-Identifier: GPL-3.0-or-later
"""One-coin Dawid-Skene: a worker is right with one probability, and errs evenly among the other classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.model import (
    SMALLEST,
    Codes,
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
from gandt.domain.aggregation.votes import Votes

STRENGTH = 4.0
"""Images of each class that a worker starts with, answered as well as the crowd answers."""

EXTRA_ITEMS = 10.0
"""Images of each class that the class prior starts with."""


def fit_one_coin(votes: Votes, options: FitOptions) -> Fit:
    """EM for the posterior of labels and the accuracy of workers, with a prior pooled over workers.

    A worker's accuracy is the mean of the shares of each class that he finds, so that a worker who always gives the
    commonest label is no better than chance. With the plain share of right votes such a worker pulls everything to his
    label: planted crowds lost up to 66 points so.

    Args:
        votes: one label each.
        options: start, tolerance, iterations.
    Returns:
        Accuracy is the balanced one, shrunk to the crowd's by `STRENGTH` votes a class.
    Source:
        Zhang et al. 2014, "Spectral methods meet EM"; crowd-kit's OneCoinDawidSkene without the prior and the balance.
    """
    start = first_posterior(votes, options)
    if votes.classes < 2 or not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))

    def step(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = vote_scores(votes, log_odds(pooled_accuracy(sums, posterior), votes.classes))
        scores += np.log(class_prior(posterior, votes, EXTRA_ITEMS))
        return clamp_gold(softmax(scores), votes)

    sums = CodeSums(votes)
    posterior, iterations, converged = settle(step, start, options)
    return Fit(posterior, pooled_accuracy(sums, posterior), None, iterations, converged)


def pooled_accuracy(sums: CodeSums, posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[W] expected balanced accuracy, shrunk to the crowd's."""
    counts = sums.over_items(posterior)
    return balanced_accuracy(sums, counts, sums.over_codes(counts), STRENGTH)


def balanced_accuracy(
    codes: Codes, counts: NDArray[np.float64], given: NDArray[np.float64], strength: float
) -> NDArray[np.float64]:
    """f64[W] mean over classes of the share of its images that the worker gives it.

    Args:
        counts: f64[C, K] expected counts of codes; `given` f64[W, K] their sums by worker.
        strength: votes a class that lean on the crowd's plain accuracy.
    """
    right = np.zeros_like(given)
    right[codes.worker, codes.label] = counts[np.arange(len(codes.label)), codes.label]
    crowd = (right.sum() + 1.0) / (given.sum() + 2.0)
    result: NDArray[np.float64] = ((right + strength * crowd) / (given + strength)).mean(axis=1)
    return result


def log_odds(accuracy: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """f64[W]: what a vote adds to the log score of its class over every other class; negative below chance."""
    right = np.clip(accuracy, SMALLEST, 1 - SMALLEST)
    result: NDArray[np.float64] = np.log(right) - np.log((1 - right) / (classes - 1))
    return result


def vote_scores(votes: Votes, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[I, K]: sum of f64[W] weights of the workers who gave each class."""
    size = votes.items * votes.classes
    return weighted_count(votes.cells(), weight[votes.worker], size).reshape(votes.items, votes.classes)
