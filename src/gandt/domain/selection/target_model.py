# SPDX-License-Identifier: GPL-3.0-or-later
"""Fits the ranking for some wanted labels, with what stands in for negatives when there are none."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.kernel_logistic import Model, Strongest, basis_of, fit
from gandt.domain.selection.pool import Matrix, Pool
from gandt.domain.selection.space import Space
from gandt.domain.selection.training import TrainingSet

WEAK_NEGATIVES = 200  # pool images that stand in for "Other"; at a few percent prevalence hardly any is wanted
MAX_MODELS = 64  # wanted labels with a model of their own; each costs one pass of kernel columns


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


def fit_each(projected: Matrix, targets: Matrix, seed: int, round_number: int) -> Model | Strongest:
    """One model a wanted label against the images that carry none of them, and the most favorable of them counts.

    Wanted labels are kinds of their own: one model of all would have to draw one border around them. In a filter this
    loses a fifth to a third fewer wanted images (benchmarks/README.md, "Selection").

    Args:
        projected: f64[L, K] projected vectors.
        targets: f64[L, C] chances of carrying each of the C wanted labels.
    """
    each = targets[:, (targets >= 0.5).any(axis=0)]
    if not 2 <= each.shape[1] <= MAX_MODELS:
        return fit_soft(projected, np.clip(targets.sum(axis=1), 0.0, 1.0), seed, round_number)
    rest = (each < 0.5).all(axis=1)
    models = []
    for column in range(each.shape[1]):
        rows = rest | (each[:, column] >= 0.5)
        models.append(fit_soft(projected[rows], each[rows, column], seed, round_number))
    return Strongest(tuple(models))


def fit_soft(projected: Matrix, target: NDArray[np.float64], seed: int, round_number: int) -> Model:
    """The model for f64[L, K] projected vectors and f64[L] chances of being wanted."""
    basis = basis_of(projected, target >= 0.5, generator(seed, round_number, Stream.LANDMARKS))
    return fit(basis, basis.features(projected), target)
