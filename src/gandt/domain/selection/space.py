# SPDX-License-Identifier: GPL-3.0-or-later
"""The representation that rankings work in: centered, the first principal axes, scaled to unit length.

Raw vectors of a pretrained network all point roughly the same way. Taking the pool's mean away and keeping the axes
along which the pool varies lowers the labels needed on every data set tried (benchmarks/README.md, "Selection").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.pool import Matrix, Pool, unit_rows
from gandt.domain.selection.training import TrainingSet

AXES = 128
SAMPLE_ROWS = 2_000  # enough for 128 axes; the cost of the decomposition grows with its cube


@dataclass(frozen=True)
class Space:
    """A linear map of unit vectors.

    Attributes:
        center: f64[D] mean of the pool.
        axes: f64[D, K] orthonormal principal axes, K <= 128.
    """

    center: Matrix
    axes: Matrix

    def project(self, vectors: Matrix) -> Matrix:
        """f64[N, K] unit vectors of f64[N, D] unit vectors; a vector at the center becomes zero."""
        return unit_rows((vectors - self.center) @ self.axes)


def fit_space(pool: Pool, training: TrainingSet, seed: int) -> Space:
    """The space of a pool, from a uniform sample of it and the labeled images.

    The sample depends on the seed alone, not on the round, so that scores move little from round to round.
    """
    sample = pool.take(pool.sample(SAMPLE_ROWS, generator(seed, 0, Stream.SAMPLE)))
    return space_of(np.concatenate([sample, training.vectors[:SAMPLE_ROWS]]) if len(training) else sample)


def space_of(vectors: Matrix) -> Space:
    """The space of f64[N, D] unit vectors."""
    count, dim = vectors.shape
    if not count:
        return Space(np.zeros(dim), np.eye(dim, min(dim, AXES)))
    center = vectors.mean(axis=0)
    centered = vectors - center  # [N, D]
    keep = min(AXES, dim, count)
    if dim <= count:
        return Space(center, _leading(centered.T @ centered, keep)[1])
    values, left = _leading(centered @ centered.T, keep)  # [N]: the smaller side
    solid = values > max(values[0], 0.0) * 1e-12
    if not solid.any():
        return Space(center, np.zeros((dim, 1)))
    return Space(center, centered.T @ (left[:, solid] / np.sqrt(values[solid])))


def _leading(symmetric: Matrix, keep: int) -> tuple[Matrix, Matrix]:
    """The largest eigenvalues, descending, and their vectors; asking for no more than that is several times faster."""
    from scipy.linalg import eigh  # only where it is needed: 20 MB of memory

    count = len(symmetric)
    values, vectors = eigh(symmetric, subset_by_index=(count - keep, count - 1))
    return values[::-1], vectors[:, ::-1]
