# SPDX-License-Identifier: GPL-3.0-or-later
"""What finding and proving will take, in labels, before they begin."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from gandt.domain.selection.prevalence import ControlDraw
from gandt.domain.selection.recall_bound import RecallBound

ASSUMED_SHARE = 0.02  # of the pool, while no control draw has found a target
ASSUMED_ODDS = 50.0  # by which a ranking prefers a target; photos with a pretrained embedding (benchmarks/README.md)
LEFT_SHARE = 0.01  # of the targets, which finding is taken to leave


@dataclass(frozen=True, slots=True)
class Forecast:
    """Labels that are still to be bought, as expected.

    Attributes:
        find: until the ranking finds no more than chance does.
        prove: uniform draws after that, until the target is proven.
        pool: unlabeled images now.
        targets: targets in all that it counts with.
        assumed: whether their number is an assumption: no control draw has found any.
        recall, confidence: what is to be proven.
    """

    find: int
    prove: int
    pool: int
    targets: int
    assumed: bool
    recall: float
    confidence: float

    @property
    def is_worth_it(self) -> bool:
        """Whether both together take at most half of the pool."""
        return 2 * (self.find + self.prove) <= self.pool

    @property
    def sentence(self) -> str:
        """Both figures in words, and the advice."""
        basis = f"if {self.targets:,} images are wanted" if self.assumed else f"with {self.targets:,} wanted images"
        text = (
            f"{basis}: finding takes about {self.find:,} more labels; proving {self.recall:.0%} with "
            f"{self.confidence:.0%} confidence takes about {self.prove:,} after that"
        )
        return text if self.is_worth_it else f"{text}; not worth it: label all {self.pool:,}"


def forecast(
    pool: int,
    found: int,
    total: float | None,
    recall: float = 0.8,
    confidence: float = 0.9,
    control_fraction: float = 0.1,
    proving: bool = False,
    drawn: tuple[ControlDraw, ...] = (),
) -> Forecast:
    """Expected labels until the targets are found, and until that is proven.

    Finding is Wallenius' urn: each main pick prefers targets by ASSUMED_ODDS, so picks for the next of k targets left
    number 1 + others / (odds k) on average. Proving is the recall bound itself, fed with the targets to be expected.

    Args:
        pool: unlabeled images now.
        found: targets known now.
        total: estimate of all targets; None assumes ASSUMED_SHARE of the pool.
        proving: whether finding is over.
        drawn: control draws so far; what they proved is not bought again.
    """
    assumed = total is None
    targets = max(round(ASSUMED_SHARE * pool) + found if total is None else round(total), found)
    left = min(targets - found, pool)
    rest = left if proving else min(left, max(1, ceil(LEFT_SHARE * targets)))
    odds, others = ASSUMED_ODDS, pool - left
    picks = sum(1 + others / (odds * k) for k in range(rest + 1, left + 1))
    find = min(pool, ceil(picks / (1 - control_fraction))) if control_fraction < 1 else 0
    after = pool - find
    prove = _to_prove(after, found + left - rest, min(rest, after), recall, confidence, drawn)
    return Forecast(find, prove, pool, targets, assumed, recall, confidence)


def _to_prove(
    pool: int, found: int, left: int, recall: float, confidence: float, drawn: tuple[ControlDraw, ...]
) -> int:
    """Fewest uniform draws, targets among them as expected, after which the bound reaches the recall."""
    images = max([pool + found, *(draw.pool + draw.found_before for draw in drawn)])

    def reaches(count: int) -> bool:
        bound = RecallBound(images, 1.0 - confidence)
        for draw in drawn:
            bound.add(draw)
        targets = min(round(count * left / pool), count) if pool else 0
        if count:
            bound.add(ControlDraw(pool, count, targets, found))
        return bound.recall(found + targets) >= recall

    low, high = 0, pool
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle + 1, high)
    return low
