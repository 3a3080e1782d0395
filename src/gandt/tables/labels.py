# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of labels: labeled images, gold and truth, images, and labels out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gandt.domain.datasets import LabeledImage, LabelEstimate, join_labels, split_labels
from gandt.domain.errors import InvalidInput
from gandt.tables.files import Row, check_columns, read_rows, write_rows

LABEL_COLUMNS = ("image", "label", "confidence", "status", "answers", "agreeing")
YES_NO = {"": False, "0": False, "no": False, "false": False, "1": True, "yes": True, "true": True}
PROJECT_LABEL_COLUMNS = (*LABEL_COLUMNS, "arm", "round", "inclusion_probability")


def read_labeled(path: str) -> list[LabeledImage]:
    """Labeled images; several labels of one image come in several rows or joined with `|`.

    Raises:
        InvalidInput: a cell is empty, a number is out of range; names file and line.
    """
    rows: dict[str, tuple[Row, list[str]]] = {}
    for row in read_rows(path, ("image", "label")):
        image = row.required("image")
        labels = split_labels(row.required("label"))
        if not labels:
            raise InvalidInput(f"{row.where}: column 'label' is empty", field="label", reason="EMPTY_CELL")
        _, known = rows.setdefault(image, (row, []))
        known.extend(label for label in labels if label not in known)
    return [_labeled(image, row, labels) for image, (row, labels) in rows.items()]


def _labeled(image: str, row: Row, labels: list[str]) -> LabeledImage:
    probability = row.number("probability", 1.0)
    inclusion = row.number("inclusion_probability", 0.0)
    for name, value in (("probability", probability), ("inclusion_probability", inclusion)):
        if not 0 <= value <= 1:
            raise InvalidInput(f"{row.where}: {name} is {value}, not in [0, 1]", field=name, reason="BAD_NUMBER")
    return LabeledImage(image, tuple(labels), probability, row.text("arm"), int(row.number("round", 0)), inclusion)


def write_labeled(path: str, images: Iterable[LabeledImage]) -> int:
    """Writes labeled images with all columns of the format."""
    columns = ("image", "label", "probability", "arm", "round", "inclusion_probability")
    return write_rows(
        path,
        columns,
        (
            {
                "image": i.image_id,
                "label": i.labels,
                "probability": i.probability,
                "arm": i.arm,
                "round": i.round,
                "inclusion_probability": i.inclusion_probability,
            }
            for i in images
        ),
    )


def read_gold(path: str) -> dict[str, tuple[str, ...]]:
    """Known labels by image, from a gold or truth table; an empty label means none of these.

    Raises:
        InvalidInput: an image has two different rows of labels.
    """
    return {image: labels for image, (labels, _) in gold_rows(path).items()}


def read_known(path: str) -> tuple[dict[str, tuple[str, ...]], set[str]]:
    """As `read_gold`, and the images whose column `random` says that they were drawn at random; without it none."""
    drawn: set[str] = set()
    return {image: labels for image, (labels, _) in gold_rows(path, drawn).items()}, drawn


def gold_rows(path: str, drawn: set[str] | None = None) -> dict[str, tuple[tuple[str, ...], str]]:
    """As `read_gold`, each with the place of its row, `file, line N`; `drawn` gets the images drawn at random."""
    gold: dict[str, tuple[tuple[str, ...], str]] = {}
    for row in read_rows(path, ("image", "label"), {"task": "image"}):
        image, labels = row.required("image"), split_labels(row.text("label"))
        known, where = gold.get(image, (labels, row.where))
        if set(known) != set(labels):
            raise InvalidInput(
                f"{row.where}: image {image!r} is {join_labels(labels)!r} here and {join_labels(known)!r} before",
                field="label",
                reason="CONFLICTING_LABELS",
            )
        gold[image] = labels, where
        if drawn is not None and _is_yes(row, "random"):
            drawn.add(image)
    return gold


def _is_yes(row: Row, column: str) -> bool:
    cell = row.text(column).strip().lower()
    if cell not in YES_NO:
        raise InvalidInput(
            f"{row.where}: {column} is {cell!r}, neither yes nor no",
            field=column,
            reason="BAD_NUMBER",
            fix="write yes or no",
        )
    return YES_NO[cell]


def read_images(path: str) -> list[str]:
    """Images or URIs of a table with a column `image` or `uri`, in order (`uri` wins where both are there)."""
    images = []
    for row in read_rows(path, ()):
        column = next((c for c in ("uri", "image") if row.text(c).strip()), None)
        if column is None:
            check_columns(list(row.values), path, ("image",))
            raise InvalidInput(f"{row.where}: column 'image' is empty", field="image", reason="EMPTY_CELL")
        images.append(row.text(column).strip())
    return images


def label_row(estimate: LabelEstimate) -> Mapping[str, Any]:
    """One row of labels out."""
    return {
        "image": estimate.image_id,
        "label": estimate.labels,
        "confidence": round(estimate.confidence, 6),
        "status": str(estimate.status),
        "answers": estimate.answers,
        "agreeing": estimate.agreeing,
    }


def write_labels(path: str, estimates: Iterable[LabelEstimate]) -> int:
    """Writes labels out, one row an image."""
    return write_rows(path, LABEL_COLUMNS, map(label_row, estimates))
