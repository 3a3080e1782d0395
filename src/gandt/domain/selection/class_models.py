# SPDX-License-Identifier: GPL-3.0-or-later
"""One model a label on shared features: predictions for reasons, margins and per-class budgets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.kernel_logistic import basis_of, fit, kernel, probability
from gandt.domain.selection.pool import Matrix
from gandt.domain.selection.space import Space
from gandt.domain.selection.training import TrainingSet

MAX_CLASSES = 64  # the most frequent labels; each costs one small fit


@dataclass(frozen=True)
class ClassModels:
    """Chances of labels.

    Attributes:
        names: C labels.
        landmarks: f64[M, K].
        weights: f64[M, C]; biases: f64[C].
    """

    names: tuple[str, ...]
    landmarks: Matrix
    weights: Matrix
    biases: NDArray[np.float64]

    def chances(self, projected: Matrix) -> Matrix:
        """f64[N, C] chance in [0, 1] of each label, each against all others; rows need not sum to 1."""
        return probability(kernel(projected, self.landmarks) @ self.weights + self.biases)


def fit_classes(training: TrainingSet, space: Space, seed: int, round_number: int) -> ClassModels | None:
    """A model for each of the most frequent labels, or None when fewer than two can be told apart."""
    counts = Counter(label for labels in training.labels for label in labels)
    names = sorted(sorted(counts, key=lambda name: (-counts[name], name))[:MAX_CLASSES])
    names = [name for name in names if 0 < training.having([name]).sum() < len(training)]
    if len(names) < 2:
        return None
    projected = space.project(training.vectors)
    nothing = np.zeros(len(training), bool)
    basis = basis_of(projected, nothing, generator(seed, round_number, Stream.LANDMARKS))
    features = basis.features(projected)
    models = [fit(basis, features, np.clip(training.soft([name]), 0.0, 1.0)) for name in names]
    return ClassModels(
        tuple(names),
        basis.landmarks,
        np.column_stack([model.weights for model in models]),
        np.array([model.bias for model in models]),
    )
