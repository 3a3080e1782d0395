# SPDX-License-Identifier: GPL-3.0-or-later
"""One-coin and hierarchical together: the more answers a worker gave, the more his confusions count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.hierarchical import fit_hierarchical
from gandt.domain.aggregation.model import Fit, FitOptions, clamp_gold, softmax
from gandt.domain.aggregation.one_coin import fit_one_coin
from gandt.domain.aggregation.votes import Votes

EVEN = 20.0
"""Answers a class of a typical worker at which both weigh alike; 10 to 40 are within 0.2 points of accuracy."""

FLOOR = 1e-12  # below this a probability is as good as zero, and one model may not veto the other


def fit_blend(votes: Votes, options: FitOptions) -> Fit:
    """The geometric mean of both methods' posteriors; accuracy and confusion are those of `hierarchical`.

    The two models err in different ways, and where they disagree the mean is less sure than either.

    Source:
        C. Genest and J. Zidek 1986, "Combining Probability Distributions" (the logarithmic opinion pool).
    """
    one, full = fit_one_coin(votes, options), fit_hierarchical(votes, options)
    if votes.classes < 2 or not len(votes.item):
        return full
    typical = typical_votes(votes)
    weight = typical / (typical + EVEN * votes.classes)
    scores = (1 - weight) * _log(one.posterior) + weight * _log(full.posterior)
    return replace(
        full,
        posterior=clamp_gold(softmax(scores), votes),
        iterations=one.iterations + full.iterations,
        converged=one.converged and full.converged,
    )


def typical_votes(votes: Votes) -> float:
    """Votes of the worker who gave the median vote; 0 without any."""
    if not len(votes.worker):
        return 0.0
    given = np.bincount(votes.worker, minlength=votes.workers)
    return float(np.median(given[votes.worker]))


def _log(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.log(np.maximum(posterior, FLOOR))
    return result
