# SPDX-License-Identifier: GPL-3.0-or-later
"""Confusion matrices by kinds of images: a class has easy and hard kinds, on which workers err together.

Dawid-Skene takes workers as independent once the class is known. On images that mislead many of them at once it
explains the common error by a commoner wrong class, and may end below the majority. Here the error becomes a kind of
the right class.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from gandt.domain.aggregation.hierarchical import STRENGTH, confusion_of, estimated, prior_errors
from gandt.domain.aggregation.model import (
    SMALLEST,
    CodeSums,
    Fit,
    FitOptions,
    class_prior,
    first_posterior,
    settle,
    softmax,
)
from gandt.domain.aggregation.one_coin import EXTRA_ITEMS
from gandt.domain.aggregation.votes import NO_GOLD, Votes

KINDS = 4  # of images in each class; those that the answers do not need stay empty


def fit_subtypes(votes: Votes, options: FitOptions) -> Fit:
    """EM for class and kind of each image; the rows of a worker's matrix for the kinds of a class share a prior.

    The prior is that of `hierarchical`. Kinds begin as degrees of agreement, so nothing is drawn, and the order and
    the names of images and labels do not matter.

    Args:
        votes: one label each.
        options: start, tolerance, iterations.
    Returns:
        Accuracy and confusion are those of the classes.
    Source:
        Y. Li, B. Rubinstein and T. Cohn 2019, "Exploiting Worker Correlation for Label Aggregation" (EBCC), with
        another prior and start.
    """
    start = first_posterior(votes, options)
    if votes.classes < 2 or not len(votes.item):
        return Fit(start, accuracy=np.full(votes.workers, np.nan))
    sums = CodeSums(votes)
    kinds = _clamp(_by_agreement(start), votes)
    shape = kinds.shape

    def step(flat: NDArray[np.float64]) -> NDArray[np.float64]:
        scores = sums.over_votes(_log_errors(sums, flat, votes.classes))
        by_kind = flat.reshape(shape).sum(axis=0)
        within = digamma(by_kind + 1.0 / KINDS) - digamma(by_kind.sum(axis=1, keepdims=True) + 1.0)
        prior = class_prior(flat.reshape(shape).sum(axis=2), votes, EXTRA_ITEMS)
        scores += (within + np.log(prior)[:, None]).ravel()
        return _clamp(softmax(scores).reshape(shape), votes).reshape(flat.shape)

    flat, iterations, converged = settle(step, kinds.reshape(votes.items, -1), options)
    posterior = flat.reshape(shape).sum(axis=2)
    estimate = estimated(sums, sums.over_items(posterior))
    return Fit(posterior, estimate.accuracy, confusion_of(estimate, sums, votes), iterations, converged)


def _by_agreement(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[I, K, KINDS]: the more of an image's votes a class has, the likelier its last kind (Bernstein weights)."""
    share = posterior[:, :, None]
    kind = np.arange(KINDS)
    ways = np.array([comb(KINDS - 1, n) for n in range(KINDS)])
    result: NDArray[np.float64] = share * ways * share**kind * (1 - share) ** (KINDS - 1 - kind)
    return result


def _clamp(kinds: NDArray[np.float64], votes: Votes) -> NDArray[np.float64]:
    """Leaves gold items their own class only, in place; their kinds stay in proportion."""
    known = np.flatnonzero(votes.gold != NO_GOLD)
    own = kinds[known, votes.gold[known]]
    total = own.sum(axis=1, keepdims=True)
    kinds[known] = 0.0
    kinds[known, votes.gold[known]] = np.where(total > SMALLEST, own / np.maximum(total, SMALLEST), 1.0 / KINDS)
    return kinds


def _log_errors(sums: CodeSums, flat: NDArray[np.float64], classes: int) -> NDArray[np.float64]:
    """f64[C, K * KINDS]: log probability that the worker of a code gives its class to an image of each kind."""
    counts = sums.over_items(flat)
    estimate = estimated(sums, counts.reshape(len(counts), classes, KINDS).sum(axis=2))
    given = sums.over_codes(counts)
    counts += STRENGTH * np.repeat(prior_errors(estimate, sums), KINDS, axis=1)
    counts /= (given + STRENGTH)[sums.worker]
    result: NDArray[np.float64] = np.log(np.maximum(counts, SMALLEST))
    return result
