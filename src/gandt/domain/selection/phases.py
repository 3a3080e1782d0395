# SPDX-License-Identifier: GPL-3.0-or-later
"""When to stop finding and begin proving.

Finding ranks, with a few control draws beside. Proving, where it is asked for, draws every image uniformly: that is
worth its labels once the ranking finds no more than the control draws do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

WINDOW_ROUNDS = 2  # one round of a small batch says little
WINDOW_PICKS = 80


class Phase(StrEnum):
    """What rounds are for."""

    FIND = "find"
    PROVE = "prove"


@dataclass(frozen=True, slots=True)
class RoundYield:
    """Picks of one labeled round, or part of one, and the targets among them."""

    main: int
    main_targets: int
    control: int
    control_targets: int


def next_phase(rounds: Sequence[RoundYield]) -> Phase:
    """The phase of the next round of a campaign that is to prove something.

    Proving begins when the main picks of the last rounds (two at least, 80 picks at least) had no larger share of
    targets than all control draws so far, and it never ends again: without main picks there is nothing to compare.

    Args:
        rounds: labeled rounds, oldest first.

    >>> next_phase([RoundYield(45, 9, 5, 0), RoundYield(45, 0, 5, 1), RoundYield(45, 0, 5, 0)])
    <Phase.PROVE: 'prove'>
    """
    if any(one.control and not one.main for one in rounds):
        return Phase.PROVE
    picks = targets = used = 0
    for one in reversed(rounds):
        if used >= WINDOW_ROUNDS and picks >= WINDOW_PICKS:
            break
        picks, targets, used = picks + one.main, targets + one.main_targets, used + 1
    drawn, found = sum(one.control for one in rounds), sum(one.control_targets for one in rounds)
    if used < WINDOW_ROUNDS or picks < WINDOW_PICKS or not drawn:
        return Phase.FIND
    return Phase.PROVE if targets * drawn <= found * picks else Phase.FIND
