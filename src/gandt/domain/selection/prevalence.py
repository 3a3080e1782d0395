# SPDX-License-Identifier: GPL-3.0-or-later
"""How many targets there are, from the control draws alone.

Main picks say nothing about the pool: they were chosen because they look like targets. Control images were drawn
uniformly, so each stands for pool / drawn images (Horvitz-Thompson).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from gandt.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class ControlDraw:
    """The control draw of one round.

    Attributes:
        pool: U, unlabeled images that were drawn from, the drawn ones included.
        drawn: c, images drawn uniformly without replacement.
        targets: x, targets among them.
        found_before: F, targets known before the draw, seeds included.
    """

    pool: int
    drawn: int
    targets: int
    found_before: int

    def __post_init__(self) -> None:
        if not 0 <= self.targets <= self.drawn <= self.pool or self.found_before < 0:
            raise InvalidInput(
                f"a control draw of {self.targets} targets among {self.drawn} of {self.pool} images is impossible",
                field="draws",
                reason="BAD_DRAW",
            )


@dataclass(frozen=True, slots=True)
class Prevalence:
    """Targets in all, known ones included.

    Attributes:
        total: unbiased estimate of their number.
        standard_error: of it, from the draws' own spread.
        share: total over all images, in [0, 1].
        drawn: control images that it rests on.
    """

    total: float
    standard_error: float
    share: float
    drawn: int


def prevalence(draws: Sequence[ControlDraw], images: int) -> Prevalence | None:
    """Horvitz-Thompson estimate of all targets.

    Each draw estimates them as F + U x / c without bias, although the pool shrinks from round to round. The draws are
    weighted by c / U, which depends on nothing that was found, so the mean stays unbiased.

    Args:
        images: N, all images that targets are counted among, labeled ones included.
    Returns:
        The estimate, or None when nothing was drawn.
    Source:
        D. G. Horvitz, D. J. Thompson, 1952.

    >>> prevalence([ControlDraw(pool=1000, drawn=50, targets=1, found_before=5)], 1025).total
    25.0
    """
    used = [draw for draw in draws if draw.drawn]
    if not used:
        return None
    weights = [draw.drawn / draw.pool for draw in used]
    whole = sum(weights)
    total = sum(w * (d.found_before + d.pool * d.targets / d.drawn) for w, d in zip(weights, used, strict=True)) / whole
    variance = 0.0
    for weight, draw in zip(weights, used, strict=True):
        # Laplace's rule keeps a draw without targets from claiming certainty.
        share = (draw.targets + 1) / (draw.drawn + 2)
        correction = (draw.pool - draw.drawn) / max(draw.pool - 1, 1)
        variance += (weight / whole * draw.pool) ** 2 * share * (1 - share) / draw.drawn * correction
    return Prevalence(total, sqrt(variance), min(total / images, 1.0) if images else 0.0, sum(d.drawn for d in used))
