# SPDX-License-Identifier: GPL-3.0-or-later
"""What labeling at random would take: exact figures of drawing without replacement."""

from __future__ import annotations

from gandt.domain.errors import InvalidInput


def expected_draws(pool: int, positives: int, wanted: int) -> float:
    """Expected number of uniform draws without replacement until `wanted` positives are found.

    Args:
        pool: images in the pool, N >= 0.
        positives: positives among them, K <= N.
        wanted: positives to find, k <= K.
    Returns:
        k (N + 1) / (K + 1); 0 when nothing is wanted.
    Raises:
        InvalidInput: more is wanted than there is.
    Source:
        Mean of the negative hypergeometric distribution.

    >>> expected_draws(99, 1, 1)
    50.0
    """
    if not 0 <= wanted <= positives <= pool:
        raise InvalidInput(f"{wanted} of {positives} positives cannot be found among {pool} images", field="wanted")
    return wanted * (pool + 1) / (positives + 1)


def expected_found(pool: int, positives: int, draws: int) -> float:
    """Expected positives among `draws` uniform draws without replacement; all of them once the pool is drawn."""
    return positives * min(draws, pool) / pool if pool else 0.0
