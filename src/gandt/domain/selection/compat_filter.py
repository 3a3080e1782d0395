# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's similarity filter, count for count.

An image's count is the number of labels that it is strictly farther from (in trimmed mean cosine distance) than from
the other label. The largest threshold above which at least the asked share of the pool lies decides: images with a
larger count are discarded.

Source:
    filter_by_similarity of the original package; tests/golden compares with cases captured from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput

NO_THRESHOLD = -1


def count_farther(distances: NDArray[np.float64], names: tuple[str, ...], other: str) -> NDArray[np.int64]:
    """i64[N]: labels but `other` whose distance is above other's; comparisons with NaN do not hold.

    Args:
        distances: f64[N, C], columns as in `names`.
    """
    if other not in names:
        return np.zeros(len(distances), np.int64)
    # Comparing other with itself adds nothing: the comparison is strict.
    return np.asarray((distances > distances[:, [names.index(other)]]).sum(axis=1), np.int64)


def threshold_of(counts: NDArray[np.integer], labels: int, min_proportion: float) -> int:
    """The largest x in 0..labels with #{count > x} >= min_proportion * N, or NO_THRESHOLD.

    Args:
        counts: int[N] of `count_farther`.
        labels: labels but other, C.
        min_proportion: share of the pool to discard at least, in [0, 1].

    >>> threshold_of(np.array([0, 1, 1, 2]), 2, 0.5), threshold_of(np.array([0, 1, 1, 2]), 2, 0.9)
    (0, -1)
    """
    needed = min_proportion * len(counts)
    above = [int((counts > x).sum()) for x in range(labels + 1)]
    return max((x for x, count in enumerate(above) if count >= needed), default=NO_THRESHOLD)


def check_compat(names: tuple[str, ...], other: str, min_proportion: float) -> None:
    """Refuses what the original dies of or loses everything by.

    Raises:
        InvalidInput: no image is labeled `other` (the original: KeyError), none is labeled otherwise (it: both lists
            empty), or a share outside [0, 1].
    """
    if not 0.0 <= min_proportion <= 1.0:
        raise InvalidInput(
            f"min_proportion_to_discard is {min_proportion}, it must lie in [0, 1]",
            field="min_proportion_to_discard",
            reason="BAD_SHARE",
        )
    if other not in names:
        raise InvalidInput(
            f"no labeled image carries the other label {other!r}; labels seen: {', '.join(names) or 'none'}",
            field="other_label",
            reason="OTHER_LABEL_MISSING",
            fix="name the right one with --other-label, or filter without --compat",
        )
    if len(names) < 2:
        raise InvalidInput(
            f"every labeled image is {other!r}, so nothing can be farther from another label than from it",
            field="labeled",
            reason="NO_WANTED_LABEL",
            fix="label some wanted images first",
        )
