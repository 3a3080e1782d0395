# SPDX-License-Identifier: GPL-3.0-or-later
"""From what people call an image to its id, and names and labels as people may give them."""

from __future__ import annotations

from collections.abc import Sequence

from gandt.domain.catalog import KnownLabel
from gandt.domain.datasets import LabelSpace, check_classes
from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt.ports.catalog_store import CatalogStore


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


def check_space(labels: Sequence[str], space: Sequence[str], image: str = "") -> GandtError | None:
    """An error for the first label that is not among the classes; it names the image where one is given."""
    for label in labels:
        if label not in space:
            return InvalidInput(
                f"label {label!r}{f' of image {image}' if image else ''} is not among the classes {', '.join(space)}",
                field="labels",
                reason="UNKNOWN_LABEL",
                fix="use a class name exactly as given",
            )
    return None


def is_usable(label: KnownLabel, space: LabelSpace) -> bool:
    """Whether a campaign of this label space can use a label that was known beforehand."""
    fits = space.multi_label or len(label.labels) == 1
    return fits and check_space(label.labels, space.classes) is None
