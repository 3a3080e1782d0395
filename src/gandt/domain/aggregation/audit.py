# SPDX-License-Identifier: GPL-3.0-or-later
"""An upper bound of the share of wrong labels, from settled images that an expert judged.

This is the only bound: a model's own estimate trusts the crowd, and crowds are wrong together. The images are drawn
uniformly from the settled ones, and judged without a look at their labels. The bound may be looked at after every
judgment: over all looks together it is wrong with probability at most alpha.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gandt.domain.errors import InvalidInput

SHARES = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
WEIGHTS = np.array([0.3, 0.2, 0.25, 0.15, 0.1])
"""The alternatives to "a share p is wrong" are "only g * p are", weighed so. Chosen for width: with 30 to 1,000
judgments and 0 to 30 % wrong the bound is at most 1.48, on average 1.27 times the exact binomial one of one look."""
STEPS = 40  # of bisection; the bound is exact to 1e-12
MOST_JUDGMENTS = 1_000_000


def evidence(judged: ArrayLike, wrong: ArrayLike, share: ArrayLike) -> NDArray[np.float64]:
    """f64, broadcast: evidence in logs that fewer than `share` of the labels are wrong.

    A likelihood ratio averaged over `SHARES`. If `share` of the labels are wrong, its exponential has the expectation
    1 at every look, so that it ever reaches 1 / alpha has a probability of at most alpha. Drawing without replacement
    only helps.

    Args:
        judged, wrong: images judged, and those of them whose label is wrong.
        share: supposed share of wrong labels, in (0, 1).
    Source:
        J. Ville 1939; W. Hoeffding 1963 (section 6) for draws without replacement.
    """
    n, k, p = np.broadcast_arrays(
        np.asarray(judged, np.float64), np.asarray(wrong, np.float64), np.asarray(share, np.float64)
    )
    none_wrong = np.where(k > 0, -np.inf, math.log(WEIGHTS[0]) - n * np.log1p(-p))
    terms = [none_wrong]
    for g, weight in zip(SHARES[1:], WEIGHTS[1:], strict=True):
        terms.append(math.log(weight) + k * math.log(g) + (n - k) * (np.log1p(-g * p) - np.log1p(-p)))
    result: NDArray[np.float64] = np.logaddexp.reduce(terms, axis=0)
    return result


def error_bounds(wrong: Iterable[bool], alpha: float = 0.05) -> NDArray[np.float64]:
    """f64[n]: after each judgment, the share of wrong labels that is not exceeded, in [0, 1]; it never rises.

    Args:
        wrong: whether the label was wrong, in the order of judging.
        alpha: chance of a false claim over all looks, in (0, 1).
    Raises:
        InvalidInput: alpha is out of range.

    >>> error_bounds([False] * 73)[-1] <= 0.05
    np.True_
    """
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}, it must lie in (0, 1)", field="alpha", reason="BAD_SHARE")
    errors = np.cumsum(np.fromiter(wrong, np.float64))
    judged = np.arange(1, len(errors) + 1)
    # Evidence rises with the share supposed, so the shares that are refuted are those above one point.
    low, high = np.zeros(len(errors)), np.ones(len(errors))
    for _ in range(STEPS):
        middle = (low + high) / 2
        refuted = evidence(judged, errors, middle) >= -math.log(alpha)
        low, high = np.where(refuted, low, middle), np.where(refuted, middle, high)
    bounds: NDArray[np.float64] = np.minimum.accumulate(high)
    return bounds


def judgments_needed(target: float, share: float = 0.0, alpha: float = 0.05) -> int:
    """Fewest judgments that bound the wrong labels by `target` when at most a share `share` of those judged is wrong.

    This is the price of a bound, to be shown before anybody is asked.

    Raises:
        InvalidInput: the target is not above the share, so that no audit would show it; or millions would be needed.

    >>> judgments_needed(0.05), judgments_needed(0.05, 0.02)
    (73, 243)
    """
    if not 0 <= share < target < 1:
        raise InvalidInput(
            f"a bound of {target} cannot be shown where a share of {share} is wrong",
            field="target",
            reason="BAD_SHARE",
            fix="aim at a share above the one expected, and below 1",
        )
    few, many = 0, 64
    while few < MOST_JUDGMENTS:
        judged = np.arange(few + 1, many + 1)
        enough = evidence(judged, np.floor(judged * share + 1e-9), target) >= -math.log(alpha)
        if enough.any():
            return int(judged[np.argmax(enough)])
        few, many = many, many * 2
    raise InvalidInput(
        f"a bound of {target} with {share} wrong takes more than {MOST_JUDGMENTS:,} judgments",
        field="target",
        reason="BAD_SHARE",
        fix="aim at a larger share",
    )
