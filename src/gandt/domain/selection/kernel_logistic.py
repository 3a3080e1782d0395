# SPDX-License-Identifier: GPL-3.0-or-later
"""Logistic regression with a Gaussian kernel: the model behind find-more, the filter's ranking and predictions.

Chosen by label counts: on digits (pixels and HOG) and clothing photos it needs fewer labels than Rocchio, plain
logistic regression and their blend, with clean and with 10 % wrong labels (benchmarks/README.md, "Selection"). A soft
kernel keeps two different-looking kinds of one wanted class apart, which no linear ranking can.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.selection.pool import Matrix

SHARPNESS = 3.0  # kernel exp(-SHARPNESS * (1 - cosine)); 1 to 4 differ by a few percent of labels
RIDGE = 0.3  # penalty; larger is calmer under wrong labels, smaller follows few examples faster
JITTER = 1e-6  # keeps the kernel of equal vectors invertible; far below what moves a ranking
MAX_LANDMARKS = 512  # kernel columns; bounds the fit at any number of labels
_STEPS = 50


def kernel(a: Matrix, b: Matrix) -> Matrix:
    """f64[N, M] similarities in (0, 1] of unit vectors f64[N, K] and f64[M, K]."""
    product = a @ b.T
    product -= 1.0
    product *= SHARPNESS
    return np.exp(product, out=product)


@dataclass(frozen=True)
class Basis:
    """Kernel features shared by all models of one request.

    Attributes:
        landmarks: f64[M, K] unit vectors that the kernel is measured to.
        whitening: f64[M, M] turns kernel columns into features whose inner products are the kernel.
    """

    landmarks: Matrix
    whitening: Matrix

    def features(self, projected: Matrix) -> Matrix:
        """f64[N, M] features of f64[N, K] projected vectors."""
        return kernel(projected, self.landmarks) @ self.whitening


@dataclass(frozen=True)
class Model:
    """A fitted ranking: log-odds of being wanted."""

    landmarks: Matrix
    weights: NDArray[np.float64]
    bias: float

    def score(self, projected: Matrix) -> NDArray[np.float64]:
        """f64[N] log-odds of f64[N, K] projected vectors; balanced classes are assumed, so they are no base rates."""
        return kernel(projected, self.landmarks) @ self.weights + self.bias


@dataclass(frozen=True)
class Strongest:
    """Several rankings in one: an image is worth what the most favorable of them says."""

    models: tuple[Model, ...]

    def score(self, projected: Matrix) -> NDArray[np.float64]:
        """f64[N] the largest log-odds of f64[N, K] projected vectors."""
        out = self.models[0].score(projected)
        for model in self.models[1:]:
            out = np.maximum(out, model.score(projected))
        return out


def basis_of(projected: Matrix, positives: NDArray[np.bool_], rng: np.random.Generator) -> Basis:
    """Features from labeled vectors f64[L, K]; above 512 of them positives come first, then a uniform draw."""
    rows = np.arange(len(projected))
    if len(rows) > MAX_LANDMARKS:
        wanted, rest = rows[positives], rows[~positives]
        # At most half go to positives, so that what surrounds them is still described.
        wanted = rng.permutation(wanted)[: max(MAX_LANDMARKS // 2, MAX_LANDMARKS - len(rest))]
        rows = np.sort(np.concatenate([wanted, rng.permutation(rest)[: MAX_LANDMARKS - len(wanted)]]))
    landmarks = projected[rows]
    gram = kernel(landmarks, landmarks)
    gram[np.diag_indices_from(gram)] += JITTER
    return Basis(landmarks, np.linalg.inv(np.linalg.cholesky(gram)).T)


def fit(
    basis: Basis, features: Matrix, target: NDArray[np.float64], weight: NDArray[np.float64] | None = None
) -> Model:
    """Ridge logistic regression with balanced classes, by Newton's method.

    Args:
        features: f64[L, M] of the training images.
        target: f64[L] chance in [0, 1] that each is wanted.
        weight: f64[L] how much each image counts; None counts all alike.
    Returns:
        The model over the basis' landmarks; it scores everything 0 when all images are wanted, or none.
    """
    count = len(target)
    each = np.ones(count) if weight is None else weight
    positive, negative = each * target, each * (1.0 - target)
    if not positive.sum() or not negative.sum():  # nothing to tell apart
        return Model(basis.landmarks, np.zeros(len(basis.landmarks)), 0.0)
    # A soft label is two copies of an image, one on each side; each side weighs half in all.
    positive *= count / (2.0 * positive.sum())
    negative *= count / (2.0 * negative.sum())
    mass = positive + negative
    design = np.column_stack([features, np.ones(count)])  # [L, M + 1]
    penalty = np.full(design.shape[1], RIDGE)
    penalty[-1] = 1e-6  # the bias is free, but never undetermined
    theta = np.zeros(design.shape[1])
    loss = _loss(design, theta, positive, negative, penalty)
    for _ in range(_STEPS):
        chance = _sigmoid(design @ theta)
        gradient = design.T @ (mass * chance - positive) + penalty * theta
        hessian = (design * (mass * chance * (1.0 - chance))[:, None]).T @ design
        hessian[np.diag_indices_from(hessian)] += penalty
        step = np.linalg.solve(hessian, gradient)
        scale = 1.0
        while scale > 1e-6:
            trial = theta - scale * step
            trial_loss = _loss(design, trial, positive, negative, penalty)
            if trial_loss <= loss:
                break
            scale /= 2.0  # Newton overshoots only far from the optimum
        else:
            break
        done = float(np.abs(step).max()) * scale < 1e-9
        theta, loss = trial, trial_loss
        if done:
            break
    return Model(basis.landmarks, basis.whitening @ theta[:-1], float(theta[-1]))


def probability(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities in [0, 1] of log-odds; not calibrated."""
    return _sigmoid(log_odds)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))  # never overflows


def _loss(
    design: Matrix,
    theta: NDArray[np.float64],
    positive: NDArray[np.float64],
    negative: NDArray[np.float64],
    penalty: NDArray[np.float64],
) -> float:
    z = design @ theta
    fit_loss = positive @ np.logaddexp(0.0, -z) + negative @ np.logaddexp(0.0, z)
    return float(fit_loss + 0.5 * (penalty * theta) @ theta)
