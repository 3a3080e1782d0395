# SPDX-License-Identifier: GPL-3.0-or-later
"""What is checked before a campaign begins, so that nothing fails only after answers were paid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gandt.domain.catalog import KnownLabel, LabelKind
from gandt.domain.datasets import LabelSpace
from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.campaigns import CampaignSpec, check_budget
from gandt.domain.nearest_name import nearest_name
from gandt_jobcontroller.service.launching import check_page
from gandt_jobcontroller.service.naming import check_space
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.peers import Aggregator, Selector

AUTO = "auto"


def admit(parts: Parts, spec: CampaignSpec) -> str:
    """Refuse a campaign that can only fail later; returns what its maker should know, "" when nothing.

    Raises:
        OverBudget: the budget does not reach for one page.
        InvalidInput: nobody offers its strategy or method, they do not fit its labels, or a page holds too much.
    """
    check_budget(spec)
    check_strategy(parts.peers.selector, spec.strategy, spec.target_labels)
    _check_method(parts.peers.aggregator, spec.method, spec.multi_label)
    check_page(parts, spec)
    found = (unused(parts.store.known_labels(kind), spec.space, kind) for kind in (LabelKind.SEED, LabelKind.GOLD))
    return "; ".join(words for words in found if words)


def check_strategy(selector: Selector, name: str, targets: Sequence[str]) -> None:
    """Refuse a selection strategy that is not offered, or that looks for targets where there are none.

    "" and auto are never asked for.

    Raises:
        InvalidInput: there is no such strategy, or it needs a target label.
    """
    if name in ("", AUTO):
        return
    offered = {info.name: info for info in selector.strategies()}
    _check_offered(name, offered, "strategy", "selection strategy", "UNKNOWN_STRATEGY")
    if offered[name].needs_targets and not targets:
        raise InvalidInput(
            f"strategy {name} looks for images of a wanted label, and none is named",
            field="target_labels",
            reason="STRATEGY_NEEDS_TARGET",
            fix="name one, as in --target LABEL, or choose another strategy",
        )


def _check_method(aggregator: Aggregator, name: str, multi_label: bool) -> None:
    if name in ("", AUTO):
        return
    offered = {info.name: info for info in aggregator.methods()}
    _check_offered(name, offered, "method", "aggregation method", "UNKNOWN_METHOD")
    if offered[name].needs_multi_label and not multi_label:
        raise InvalidInput(
            f"method {name} is for several labels an image",
            field="method",
            reason="METHOD_NEEDS_MULTI_LABEL",
            fix="use hierarchical, or allow several labels with --multilabel",
        )
    if multi_label and not offered[name].multi_label:
        raise InvalidInput(
            f"method {name} is for one label an image",
            field="method",
            reason="METHOD_NEEDS_SINGLE_LABEL",
            fix="use two-coin, or allow one label an image",
        )


def _check_offered(name: str, offered: Iterable[str], field: str, what: str, reason: str) -> None:
    names = sorted({AUTO, *offered})
    if name in names:
        return
    raise InvalidInput(f"there is no {what} {name[:60]!r}", field=field, reason=reason, fix=nearest_name(name, names))


def unused(known: Sequence[KnownLabel], space: LabelSpace, kind: LabelKind) -> str:
    """What a campaign says about seeds or gold of other classes, which it leaves aside; "" when there are none."""
    foreign = [label for label in known if check_space(label.labels, space.classes) is not None]
    if not foreign:
        return ""
    names = sorted({name for label in foreign for name in label.labels if name not in space.classes})
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return (
        f"{len(foreign)} {kind} labels are not used, for {shown} is not among the classes {', '.join(space.classes)} "
        f"(the first is of image {foreign[0].image_id[:12]})"
    )
