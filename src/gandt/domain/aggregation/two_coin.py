# SPDX-License-Identifier: GPL-3.0-or-later
"""Several labels an image: for each label a worker has a hit rate and a correct-rejection rate, pooled over workers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.model import (
    SMALLEST,
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

STRENGTH = 4.0  # answers of the average worker that each rate starts with


def fit_two_coin(votes: Votes, options: FitOptions) -> Fit:
    """EM for one yes-no question (class 1 is yes); MAP with pooled Beta priors.

    Args:
        votes: two classes, as `SetVotes.binary` gives them.
        options: start, tolerance, iterations.
    Source:
        Dawid and Skene 1979 for two classes; Raykar et al. 2010, "Learning from Crowds", for the priors.
    """
    start = first_posterior(votes, options)
    if not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))

    def step(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        hit, reject = rates(posterior[:, 1], votes)
        scores = label_scores(votes, hit, reject)
        scores += np.log(class_prior(posterior, votes))
        return clamp_gold(softmax(scores), votes)

    posterior, iterations, converged = settle(step, start, options)
    hit, reject = rates(posterior[:, 1], votes)
    confusion = np.stack([np.stack([reject, 1 - reject], 1), np.stack([1 - hit, hit], 1)], 1)
    right = posterior[votes.item, votes.label]
    given = np.bincount(votes.worker, minlength=votes.workers)
    accuracy = np.bincount(votes.worker, weights=right, minlength=votes.workers) / np.maximum(given, 1)
    return Fit(posterior, np.where(given > 0, accuracy, np.nan), confusion, iterations, converged)


def rates(yes: NDArray[np.float64], votes: Votes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(f64[W] hit rate, f64[W] correct-rejection rate) under f64[I] probabilities of yes."""
    p = yes[votes.item]
    says = votes.label == 1

    def weighted(mass: NDArray[np.float64]) -> NDArray[np.float64]:
        return weighted_count(votes.worker, mass, votes.workers)

    hits, wanted = weighted(p * says), weighted(p)
    rejects, unwanted = weighted((1 - p) * ~says), weighted(1 - p)
    hit = (hits + STRENGTH * (hits.sum() + 1) / (wanted.sum() + 2)) / (wanted + STRENGTH)
    reject = (rejects + STRENGTH * (rejects.sum() + 1) / (unwanted.sum() + 2)) / (unwanted + STRENGTH)
    return np.clip(hit, SMALLEST, 1 - SMALLEST), np.clip(reject, SMALLEST, 1 - SMALLEST)


def label_scores(votes: Votes, hit: NDArray[np.float64], reject: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[I, 2] log likelihood of no and yes."""
    return np.stack(
        [np.bincount(votes.item, weights=part, minlength=votes.items) for part in vote_scores_of(votes, hit, reject)],
        1,
    )


def vote_scores_of(
    votes: Votes, hit: NDArray[np.float64], reject: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(f64[V], f64[V]): what each vote adds to the log likelihood of no and of yes."""
    says = votes.label == 1
    worker = votes.worker
    no = np.where(says, np.log(1 - reject)[worker], np.log(reject)[worker])
    yes = np.where(says, np.log(hit)[worker], np.log(1 - hit)[worker])
    return no, yes
