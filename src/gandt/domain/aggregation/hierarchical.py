# SPDX-License-Identifier: GPL-3.0-or-later
"""Dawid-Skene with a prior pooled over workers: few answers of a worker lean on what the whole crowd does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.dawid_skene import MAX_CONFUSION_CELLS
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
)
from gandt.domain.aggregation.one_coin import EXTRA_ITEMS, balanced_accuracy
from gandt.domain.aggregation.votes import Votes

STRENGTH = 8.0  # answers that the prior of a confusion column is worth; 2 to 8 are alike on 17 real sets
ACCURACY_STRENGTH = 2.0  # votes a class of the crowd that a worker's balanced accuracy starts with


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the crowd's counts say: each worker's balanced accuracy, the crowd's confusions, and the counts."""

    accuracy: NDArray[np.float64]  # [W]
    shape: NDArray[np.float64]  # [K given, K true], zero diagonal, columns sum to 1
    counts: NDArray[np.float64]  # [C, K]
    given: NDArray[np.float64]  # [W, K]


def fit_hierarchical(votes: Votes, options: FitOptions) -> Fit:
    """EM where the prior of a worker's confusion column has the worker's own balanced accuracy on the diagonal and
    the crowd's confusions, scaled, off it; the prior weighs `STRENGTH` answers.

    Args:
        votes: one label each.
        options: start, tolerance, iterations.
    Source:
        Dawid and Skene 1979 with a Dirichlet prior; compare Paun et al. 2018, "Comparing Bayesian Models of
        Annotation".
    """
    start = first_posterior(votes, options)
    if votes.classes < 2 or not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))
    sums = CodeSums(votes)

    def step(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        estimate = estimated(sums, sums.over_items(posterior))
        scores = sums.over_votes(log_errors(estimate, sums))
        scores += np.log(class_prior(posterior, votes, EXTRA_ITEMS))
        return clamp_gold(softmax(scores), votes)

    posterior, iterations, converged = settle(step, start, options)
    estimate = estimated(sums, sums.over_items(posterior))
    return Fit(posterior, estimate.accuracy, confusion_of(estimate, sums, votes), iterations, converged)


def estimated(codes: Codes, counts: NDArray[np.float64]) -> Estimate:
    """The estimate from f64[C, K] expected counts of codes on images of each class."""
    pooled = np.zeros((codes.classes, codes.classes))
    np.add.at(pooled, codes.label, counts)  # [K given, K true]
    np.fill_diagonal(pooled, 0.0)
    shape = pooled + 1.0 - np.eye(codes.classes)
    given = codes.over_codes(counts)
    accuracy = balanced_accuracy(codes, counts, given, ACCURACY_STRENGTH)
    return Estimate(accuracy, shape / shape.sum(axis=0), counts, given)


def log_errors(estimate: Estimate, codes: Codes) -> NDArray[np.float64]:
    """f64[C, K]: log probability that the worker of a code gives its class to an image of each class."""
    errors = estimate.counts + STRENGTH * prior_errors(estimate, codes)
    errors /= (estimate.given + STRENGTH)[codes.worker]
    result: NDArray[np.float64] = np.log(np.maximum(errors, SMALLEST))
    return result


def prior_errors(estimate: Estimate, codes: Codes) -> NDArray[np.float64]:
    """f64[C, K]: the same by the prior alone."""
    accuracy = estimate.accuracy[codes.worker]
    prior: NDArray[np.float64] = (1 - accuracy)[:, None] * estimate.shape[codes.label]
    prior[np.arange(len(codes.label)), codes.label] = accuracy
    return prior


def confusion_of(estimate: Estimate, sums: CodeSums, votes: Votes) -> NDArray[np.float64] | None:
    """f64[W, K true, K given], with the prior where a worker never gave a class."""
    if votes.workers * votes.classes**2 > MAX_CONFUSION_CELLS:
        return None
    accuracy = estimate.accuracy[:, None, None]
    confusion = STRENGTH * (1 - accuracy) * estimate.shape.T
    diagonal = np.arange(votes.classes)
    confusion[:, diagonal, diagonal] = STRENGTH * accuracy[:, 0]
    confusion[sums.worker, :, sums.label] += estimate.counts
    confusion /= (estimate.given + STRENGTH)[:, :, None]
    return confusion
