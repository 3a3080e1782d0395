# SPDX-License-Identifier: GPL-3.0-or-later
"""Fewer numbers a vector, by a fixed random rotation of which only the first rows are kept."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput

_SEED = 20_240_817
_VERSION = 1  # raise it when the matrix changes: vectors change with it


def random_projection(dim: int, kept: int) -> NDArray[np.float32]:
    """A matrix whose columns are orthonormal and lie in no particular direction.

    Cosines of projected vectors differ from the true ones by about 1 / sqrt(kept); for exact neighbors keep all.

    Args:
        dim: numbers in a vector.
        kept: numbers that remain, 1 to dim - 1.
    Returns:
        f32[dim, kept], the same on every machine up to rounding.
    Raises:
        InvalidInput: there is nothing to save.
    Source:
        Johnson and Lindenstrauss 1984; orthogonal rows as in Choromanski, Rowland, Weller, NeurIPS 2017.

    Example:
        >>> random_projection(8, 3).shape
        (8, 3)
    """
    if not 1 <= kept < dim:
        raise InvalidInput(
            f"vectors of {dim} numbers cannot be projected to {kept}",
            field="project_to",
            reason="BAD_PROJECTION",
            fix=f"project to 1 to {dim - 1} numbers, or leave it away",
        )
    # RandomState's stream is frozen; the newer generators may change theirs between releases of NumPy.
    gaussian = np.random.RandomState(_SEED).standard_normal((dim, kept))  # [D, N]
    rotated, triangle = np.linalg.qr(gaussian)
    # A QR decomposition is free in its signs; these make it the same with every LAPACK.
    return np.ascontiguousarray(rotated * np.sign(np.diag(triangle)), dtype=np.float32)


def projection_id(kept: int) -> str:
    """Names the projection in a fingerprint; "" for none."""
    return f"orthogonal-{_VERSION}-{kept}" if kept else ""
