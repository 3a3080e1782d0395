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
    starts = options.starts or (options.start, options.start)
    one = fit_one_coin(votes, replace(options, start=starts[0]))
    full = fit_hierarchical(votes, replace(options, start=starts[1]))
    if votes.classes < 2 or not len(votes.item):
        return full
    given = np.bincount(votes.worker, minlength=votes.workers)
    posterior = blended(one.posterior, full.posterior, typical_votes(given), votes.classes)
    return replace(
        full,
        posterior=clamp_gold(posterior, votes),
        iterations=one.iterations + full.iterations,
        converged=one.converged and full.converged,
        parts=(one.posterior, full.posterior),
    )


def blended(one: NDArray[np.float64], full: NDArray[np.float64], typical: float, classes: int) -> NDArray[np.float64]:
    """f64[I, K] of both posteriors, where a typical worker gave `typical` votes."""
    weight = typical / (typical + EVEN * classes)
    return softmax((1 - weight) * _log(one) + weight * _log(full))


def typical_votes(given: NDArray[np.integer]) -> float:
    """Votes of the worker who gave the median vote, from i[W] votes of each; 0 without any."""
    ordered = np.sort(given)
    upto = np.cumsum(ordered)
    if not len(upto) or not upto[-1]:
        return 0.0
    middle = np.array([(upto[-1] - 1) // 2, upto[-1] // 2])
    return float(ordered[np.searchsorted(upto, middle, side="right")].mean())


def _log(posterior: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.log(np.maximum(posterior, FLOOR))
    return result
