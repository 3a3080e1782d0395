# SPDX-License-Identifier: GPL-3.0-or-later
"""One-coin Dawid-Skene: a worker is right with one probability, and errs evenly among the other classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.model import (
    SMALLEST,
    Fit,
    FitOptions,
    clamp_gold,
    class_prior,
    expected_accuracy,
    settle,
    shares,
    softmax,
    weighted_count,
)
from gandt.domain.aggregation.votes import Votes

STRENGTH = 4.0  # votes of the average worker that a worker starts with; 2 to 8 are alike on 17 real sets


def fit_one_coin(votes: Votes, options: FitOptions) -> Fit:
    """EM for the posterior of labels and the accuracy of workers, with a prior pooled over workers.

    Args:
        votes: one label each.
        options: start, tolerance, iterations.
    Returns:
        Accuracy is shrunk to the crowd's mean by `STRENGTH` votes.
    Source:
        Zhang et al. 2014, "Spectral methods meet EM"; crowd-kit's OneCoinDawidSkene without the prior.
    """
    start = shares(votes) if options.start is None else clamp_gold(options.start.copy(), votes)
    if votes.classes < 2 or not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))

    def step(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = vote_scores(votes, log_odds(pooled_accuracy(posterior, votes), votes.classes))
        scores += np.log(class_prior(posterior, votes))
        return clamp_gold(softmax(scores), votes)

    posterior, iterations, converged = settle(step, start, options)
    return Fit(posterior, pooled_accuracy(posterior, votes), None, iterations, converged)


def pooled_accuracy(posterior: NDArray[np.float64], votes: Votes) -> NDArray[np.float64]:
    """f64[W] expected accuracy, shrunk to the crowd's."""
    return shrunk(*expected_accuracy(posterior, votes))


def shrunk(right: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[W] share of right votes among those given, shrunk to the crowd's by `STRENGTH` votes."""
    crowd = (right.sum() + 1.0) / (given.sum() + 2.0)
    result: NDArray[np.float64] = (right + STRENGTH * crowd) / (given + STRENGTH)
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
