# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits the ranking for some wanted labels, with what stands in for negatives when there are none."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.kernel_logistic import Model, basis_of, fit
from gandt.domain.selection.pool import Matrix, Pool
from gandt.domain.selection.space import Space
from gandt.domain.selection.training import TrainingSet

WEAK_NEGATIVES = 200  # pool images that stand in for "Other"; at a few percent prevalence hardly any is wanted


def has_negatives(training: TrainingSet, wanted: Collection[str]) -> bool:
    """Whether any labeled image carries none of the wanted labels."""
    return bool((~training.having(wanted)).any())


def weak_negatives(pool: Pool, seed: int, round_number: int) -> Matrix:
    """f64[M, D] a uniform sample of the pool, in place of labeled negatives."""
    return pool.take(pool.sample(WEAK_NEGATIVES, generator(seed, round_number, Stream.CANDIDATES)))


def fit_target(
    training: TrainingSet,
    wanted: Collection[str],
    space: Space,
    seed: int,
    round_number: int,
    weak: Matrix | None = None,
) -> Model:
    """The model that ranks by the chance of carrying one of the wanted labels.

    Args:
        wanted: labels of which at least one image is labeled.
        weak: f64[M, D] unit vectors that count as negatives; needed when every labeled image is wanted.
    """
    projected, target = space.project(training.vectors), training.soft(wanted)
    if weak is not None and len(weak):
        projected = np.concatenate([projected, space.project(weak)])
        target = np.concatenate([target, np.zeros(len(weak))])
    return fit_soft(projected, target, seed, round_number)


def fit_soft(projected: Matrix, target: NDArray[np.float64], seed: int, round_number: int) -> Model:
    """The model for f64[L, K] projected vectors and f64[L] chances of being wanted."""
    basis = basis_of(projected, target >= 0.5, generator(seed, round_number, Stream.LANDMARKS))
    return fit(basis, basis.features(projected), target)
