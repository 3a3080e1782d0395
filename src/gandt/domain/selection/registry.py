# SPDX-License-Identifier: GPL-3.0-or-later
"""The strategies on offer, by name."""

from __future__ import annotations

from collections.abc import Sequence

from gandt.domain.errors import InvalidInput
from gandt.domain.nearest_name import nearest_name
from gandt.domain.selection.auto import Auto
from gandt.domain.selection.balance import Balance
from gandt.domain.selection.compat_choice import CompatChoice
from gandt.domain.selection.cover import Cover
from gandt.domain.selection.cover_spread import CoverSpread
from gandt.domain.selection.cover_typical import CoverTypical
from gandt.domain.selection.find_more import FindMore
from gandt.domain.selection.find_similar import FindSimilar
from gandt.domain.selection.improve_model import ImproveModel
from gandt.domain.selection.outliers import Outliers
from gandt.domain.selection.random_choice import RandomChoice
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.relabel import Relabel
from gandt.domain.selection.strategy import Strategy

AUTO = "auto"


def strategies() -> dict[str, Strategy]:
    """Every strategy by name, ascending."""
    offered: list[Strategy] = [
        Auto(),
        Balance(),
        CompatChoice(),
        Cover(),
        CoverSpread(),
        CoverTypical(),
        FindMore(),
        FindSimilar(),
        ImproveModel(),
        Outliers(),
        RandomChoice(),
        Relabel(),
    ]
    return {strategy.info.name: strategy for strategy in sorted(offered, key=lambda strategy: strategy.info.name)}


def strategy_named(name: str) -> Strategy:
    """A strategy; "" means auto.

    Raises:
        InvalidInput: no strategy has that name.
    """
    offered = strategies()
    if (name or AUTO) in offered:
        return offered[name or AUTO]
    raise InvalidInput(
        f"there is no strategy {name!r}",
        field="strategy",
        reason="UNKNOWN_STRATEGY",
        fix=nearest_name(name, offered),
    )


def check_targets(name: str, targets: Sequence[str]) -> None:
    """Refuse a strategy that looks for targets where none is named.

    Raises:
        InvalidInput: no strategy has that name, or it needs a target label.
    """
    if strategy_named(name).info.needs_targets and not targets:
        raise InvalidInput(
            f"strategy {name} looks for images of a wanted label, and none is named",
            field="target_labels",
            reason="STRATEGY_NEEDS_TARGET",
            fix="name one, as in --target LABEL, or choose another strategy",
        )


def listed() -> list[StrategyInfo]:
    """What is on offer, by name."""
    return [strategy.info for strategy in strategies().values()]
