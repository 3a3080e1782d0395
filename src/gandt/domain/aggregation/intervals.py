# SPDX-License-Identifier: GPL-3.0-or-later
"""Interval of a proportion that is right for few trials and for shares near 0 and 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z_95 = 1.959963984540054


def wilson_interval(hits: ArrayLike, trials: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % Wilson score interval of hits/trials, element by element.

    Args:
        hits: successes (or a sum of values in [0, 1]), 0 to trials.
        trials: number of trials; 0 gives the whole range.
    Returns:
        (low, high), f64 in [0, 1].
    Source:
        E. B. Wilson 1927; scipy.stats.binomtest(...).proportion_ci(method="wilson").

    >>> low, high = wilson_interval(8, 10)
    >>> round(float(low), 3), round(float(high), 3)
    (0.49, 0.943)
    """
    n = np.asarray(trials, np.float64)
    safe = np.where(n > 0, n, 1.0)
    share = np.asarray(hits, np.float64) / safe
    scale = 1 + Z_95**2 / safe
    middle = (share + Z_95**2 / (2 * safe)) / scale
    half = Z_95 / scale * np.sqrt(np.maximum(share * (1 - share) / safe + Z_95**2 / (4 * safe**2), 0))
    low = np.where(n > 0, np.clip(middle - half, 0, 1), 0.0)
    high = np.where(n > 0, np.clip(middle + half, 0, 1), 1.0)
    return low, high
