# SPDX-License-Identifier: GPL-3.0-or-later
"""Four models of workers side by side: each is right on crowds on which another fails, and none can carry all away.

The posterior is their weighted mean. What a model can know depends on the answers that a worker gave, so the weight
of a model grows with these over the numbers that it estimates for each worker. No fit runs to its end: where answers
do not settle what a worker is like, further sweeps drift away from the majority (`docs/decisions`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gandt.domain.aggregation.blend import typical_votes
from gandt.domain.aggregation.hierarchical import fit_hierarchical
from gandt.domain.aggregation.mace import fit_mace
from gandt.domain.aggregation.model import Fit, FitOptions, clamp_gold
from gandt.domain.aggregation.one_coin import fit_one_coin
from gandt.domain.aggregation.subtypes import fit_subtypes
from gandt.domain.aggregation.votes import Votes

SWEEPS = 25  # of each model; 10 lose 0.2 points of accuracy, and 100 lose up to 12 points on single crowds
EVEN_MATRICES = 30.0
"""Answers a class of a typical worker at which half the weight is with confusion matrices; with half as many a fifth.

The square keeps them small while a typical worker has seen a few pages, whose mixtures look like habits.
"""
EVEN_HABITS = 20.0  # answers of a typical worker at which MACE has half its weight
MOST_MATRICES = 2 / 3
"""Most weight of the two models with confusion matrices: where they disagree, the other two settle it."""


def fit_committee(votes: Votes, options: FitOptions) -> Fit:
    """The mean of one-coin, MACE, hierarchical and subtypes; accuracy is one-coin's, confusion that of
    `hierarchical`.

    Args:
        votes: one label each.
        options: iterations above `SWEEPS` are not made.
    Source:
        M. Stone 1961, "The Opinion Pool", for the linear one.
    """
    options = replace(options, iterations=min(options.iterations, SWEEPS))
    fits = [fit(votes, options) for fit in (fit_one_coin, fit_mace, fit_hierarchical, fit_subtypes)]
    one, full = fits[0], fits[2]
    if votes.classes < 2 or not len(votes.item):
        return full
    weights = member_weights(typical_votes(np.bincount(votes.worker, minlength=votes.workers)), votes.classes)
    posterior = sum((w * fit.posterior for w, fit in zip(weights, fits, strict=True)), np.zeros_like(full.posterior))
    return replace(
        full,
        accuracy=one.accuracy,
        posterior=clamp_gold(posterior, votes),
        iterations=sum(fit.iterations for fit in fits),
        converged=all(fit.converged for fit in fits),
    )


def member_weights(typical: float, classes: int) -> tuple[float, float, float, float]:
    """Weights of one-coin, MACE, hierarchical and subtypes, where a typical worker gave `typical` votes.

    With two classes a habit cannot be told from a worker who errs one way, so MACE has no weight.
    """
    matrices = min(typical**2 / (typical**2 + (EVEN_MATRICES * classes) ** 2), MOST_MATRICES)
    habits = (1 - matrices) * (classes - 2) / classes * typical / (typical + EVEN_HABITS)
    return 1 - matrices - habits, habits, matrices / 2, matrices / 2
