# SPDX-License-Identifier: GPL-3.0-or-later
"""Dawid-Skene as crowd-kit computes it: a free confusion matrix a worker, by EM from the shares of votes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.model import (
    SMALLEST,
    CodeSums,
    Fit,
    FitOptions,
    clamp_gold,
    class_prior,
    first_posterior,
    softmax,
)
from gandt.domain.aggregation.votes import Votes

GAIN = 1e-5  # crowd-kit's stop: the bound per vote grows by less than this
MAX_CONFUSION_CELLS = 4_000_000


def fit_dawid_skene(votes: Votes, options: FitOptions) -> Fit:
    """EM with crowd-kit's clip, order of steps and stop rule, so that posteriors are equal to it.

    A worker's matrix is normalized over the classes that the worker gave at least once. With gold, those items stay
    fixed and do not count in the class prior; crowd-kit counts them.

    Source:
        Dawid and Skene 1979; crowd-kit's DawidSkene.
    """
    start = first_posterior(votes, options)
    if votes.classes < 2 or not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))
    sums = CodeSums(votes)
    sizes = votes.sizes().astype(np.float64)
    posterior = start
    log_error, log_prior, counts = _estimate(sums, votes, posterior)
    bound, converged, iteration = -np.inf, False, 0
    while iteration < options.iterations and not converged:
        options.check()
        iteration += 1
        posterior = clamp_gold(softmax(sums.over_votes(log_error) + log_prior), votes)
        log_error, log_prior, counts = _estimate(sums, votes, posterior)
        new = _bound(posterior, counts, log_error, log_prior, sizes) / len(votes.item)
        converged, bound = new - bound < GAIN, new
    right, given = sums.diagonal(counts), np.bincount(votes.worker, minlength=votes.workers)
    accuracy = np.where(given > 0, right / np.maximum(given, 1), np.nan)
    return Fit(posterior, accuracy, _confusion(sums, votes, log_error), iteration, converged)


def _estimate(
    sums: CodeSums, votes: Votes, posterior: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(f64[C, K] log errors, f64[K] log prior, f64[C, K] expected counts)."""
    counts = sums.over_items(posterior)
    clipped = np.maximum(counts, SMALLEST)
    totals = sums.over_codes(clipped)
    prior = class_prior(posterior, votes, strength=0.0)
    return np.log(clipped / totals[sums.worker]), np.log(np.maximum(prior, 1e-300)), counts


def _bound(
    posterior: NDArray[np.float64],
    counts: NDArray[np.float64],
    log_error: NDArray[np.float64],
    log_prior: NDArray[np.float64],
    sizes: NDArray[np.float64],
) -> float:
    """crowd-kit's evidence bound, which adds the log prior once a vote; good enough as a stop rule."""
    entropy = -np.sum(posterior * np.log(np.maximum(posterior, 1e-300)))
    return float(np.sum(counts * log_error) + sizes @ posterior @ log_prior + entropy)


def _confusion(sums: CodeSums, votes: Votes, log_error: NDArray[np.float64]) -> NDArray[np.float64] | None:
    if votes.workers * votes.classes**2 > MAX_CONFUSION_CELLS:
        return None
    confusion = np.zeros((votes.workers, votes.classes, votes.classes))
    confusion[sums.worker, :, sums.label] = np.exp(log_error)
    return confusion
