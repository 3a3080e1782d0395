# SPDX-License-Identifier: GPL-3.0-or-later
"""From what people call an image to its id, and names and labels as people may give them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence

from gandt.domain.datasets import check_classes
from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt.ports.catalog_store import CatalogStore
from gandt_jobcontroller.service.peers import Aggregator, Selector

AUTO = "auto"


def resolve(store: CatalogStore, names: Sequence[str]) -> list[str | GandtError]:
    """The image id of each name, or why there is none."""
    found = store.resolve_images(names)
    return [_one(name, ids) for name, ids in zip(names, found, strict=True)]


def _one(name: str, ids: Sequence[str]) -> str | GandtError:
    if len(ids) == 1:
        return ids[0]
    if not ids:
        return NotFound(
            f"image {name!r} is not in the catalog",
            kind="image",
            id=name,
            reason="IMAGE_NOT_FOUND",
            fix="import its folder first, or check the path",
        )
    return InvalidInput(
        f"image {name!r} may be any of {len(ids)} images",
        field="image",
        reason="AMBIGUOUS_IMAGE",
        fix="give more of the path",
    )


def checked_labels(labels: Sequence[str], multi_label: bool, may_be_empty: bool) -> tuple[str, ...] | GandtError:
    """Trimmed labels without repeats, or why they cannot be taken."""
    names = tuple(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if not names:
        if may_be_empty:
            return ()
        return InvalidInput("no label is given", field="labels", reason="NO_LABEL", fix="give at least one label")
    if len(names) > 1 and not multi_label:
        return InvalidInput(
            f"{len(names)} labels are given ({', '.join(names)}), one is allowed",
            field="labels",
            reason="SEVERAL_LABELS",
            fix="say that images may carry several labels, or give one",
        )
    try:
        return check_classes(names, field="labels")
    except InvalidInput as error:
        return error


def check_space(labels: Sequence[str], space: Sequence[str]) -> GandtError | None:
    """An error for the first label that is not among the classes."""
    for label in labels:
        if label not in space:
            return InvalidInput(
                f"label {label!r} is not among the classes {', '.join(space)}",
                field="labels",
                reason="UNKNOWN_LABEL",
                fix="use a class name exactly as given",
            )
    return None


def unused_seeds(seeds: Iterable[Sequence[str]], space: Sequence[str]) -> str:
    """What a campaign says about seeds of other classes, which are not its training data; "" when there are none."""
    foreign = [labels for labels in seeds if check_space(labels, space) is not None]
    if not foreign:
        return ""
    names = sorted({label for labels in foreign for label in labels if label not in space})
    shown = ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(foreign)} seed labels are not used, for {shown} is not among the classes {', '.join(space)}"


def check_strategy(selector: Selector, name: str) -> None:
    """Refuse a selection strategy that the selection service does not offer; "" and auto are never asked for.

    Raises:
        InvalidInput: there is no such strategy.
    """
    _check_offered(name, selector.names, "strategy", "selection strategy", "UNKNOWN_STRATEGY")


def check_method(aggregator: Aggregator, name: str) -> None:
    """Refuse an aggregation method that the aggregation service does not offer; "" and auto are never asked for.

    Raises:
        InvalidInput: there is no such method.
    """
    _check_offered(name, aggregator.names, "method", "aggregation method", "UNKNOWN_METHOD")


def _check_offered(name: str, offered: Callable[[], list[str]], field: str, what: str, reason: str) -> None:
    if name in ("", AUTO):
        return
    names = sorted({AUTO, *offered()})
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1, 0.5)
    raise InvalidInput(
        f"there is no {what} {name[:60]!r}",
        field=field,
        reason=reason,
        fix=f"did you mean {near[0]}?" if near else f"use one of {', '.join(names)}",
    )
