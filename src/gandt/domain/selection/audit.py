# SPDX-License-Identifier: GPL-3.0-or-later
"""A look at what was discarded: a uniform draw, and what it proves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.selection.draws import Stream, generator

ALPHA = 0.05
MAX_AUDIT = 10_000


def audit_draw(discarded: Sequence[str], count: int, seed: int) -> tuple[str, ...]:
    """At most `count` of the discarded images, drawn uniformly; whatever their order, the same seed draws the same."""
    ordered = sorted(discarded)
    order = generator(seed, 0, Stream.AUDIT).permutation(len(ordered))[:count]
    return tuple(ordered[row] for row in order.tolist())


def audit_bound(discarded: int, audited: int, wanted: int = 0, alpha: float = ALPHA) -> float:
    """Upper limit of the share of wanted images among the discarded, in [0, 1], with confidence 1 - alpha.

    Args:
        discarded: images discarded.
        audited: of them looked at, drawn uniformly without replacement.
        wanted: of those found wanted.
    Returns:
        The largest share K / discarded for which so few would turn up with a chance of at least alpha; 1 without an
        audit, 0 when nothing was discarded. About 3 / audited when none turned up.
    Source:
        The exact limit for sampling without replacement: W. G. Cochran, "Sampling Techniques", 1977, section 3.6.

    >>> round(audit_bound(100_000, 300), 4), audit_bound(10, 10), audit_bound(10, 0)
    (0.0099, 0.0, 1.0)
    """
    if not discarded:
        return 0.0
    if not audited:
        return 1.0
    low, high = wanted, discarded - (audited - wanted)  # so many wanted images are possible
    while low < high:
        middle = (low + high + 1) // 2
        if _chance_at_most(wanted, discarded, middle, audited) >= alpha * (
            1.0 - 1e-9
        ):  # a chance of alpha itself counts, whatever its last bits
            low = middle
        else:
            high = middle - 1
    return low / discarded


def _chance_at_most(wanted: int, discarded: int, among: int, audited: int) -> float:
    """P(X <= wanted) of X ~ Hypergeometric(discarded, among, audited)."""
    x = np.arange(max(0, audited - (discarded - among)), min(wanted, among) + 1)
    logs = _log_choose(among, x) + _log_choose(discarded - among, audited - x) - _log_choose(discarded, audited)
    return float(np.exp(logs).sum())


def _log_choose(n: int, k: NDArray[np.int64] | int) -> NDArray[np.float64]:
    from scipy.special import gammaln  # only where it is needed: 15 MB of memory

    return np.asarray(gammaln(n + 1) - gammaln(np.asarray(k) + 1) - gammaln(n - np.asarray(k) + 1))
