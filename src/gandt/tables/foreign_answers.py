# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers as other labeling tools export them: Label Studio, CVAT, Toloka, any table.

Label Studio: JSON of tasks with annotations, or JSON_MIN. A choice that is marked as ground truth is gold.
CVAT: XML 1.1 for images. It does not say who labeled what, so one name stands for all.
Toloka: the assignments table (TSV). Rows with a GOLDEN column filled are gold, rejected ones do not count.
A table: columns by name.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.parsers import expat

from gandt.domain.datasets import LABEL_SEPARATOR, Answer, AnswerState, split_labels
from gandt.domain.errors import InvalidInput
from gandt.tables.files import Row, check_columns, read_rows

_LEFT_OUT_STATES = ("REJECTED", "EXPIRED", "SKIPPED")


@dataclass(frozen=True, slots=True)
class Fields:
    """Which of the source's fields are meant; "" takes the only one there is.

    Attributes:
        image: Label Studio's data field, Toloka's input, a table's column.
        label: Label Studio's control (`from_name`), Toloka's output, a table's column.
        worker: a table's column; for CVAT the name that stands for all.
    """

    image: str = ""
    label: str = ""
    worker: str = ""


@dataclass
class Migrated:
    """What was read.

    Attributes:
        gold: known labels by image.
        left_out: what does not count, with the reason, by number.
    """

    answers: list[Answer] = field(default_factory=list)
    gold: dict[str, tuple[str, ...]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def leave_out(self, reason: str) -> None:
        """Counts something that is not taken over."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1


def read_label_studio(path: str, fields: Fields) -> Migrated:
    """A JSON or JSON_MIN export.

    Raises:
        InvalidInput: no such export, or the image or the control is not clear; names the task.
    """
    try:
        tasks = json.loads(_text(path))
    except (ValueError, RecursionError) as e:
        raise _not_read(path, f"it is no JSON: {e}") from e
    if not isinstance(tasks, list):
        raise _not_read(path, "it is no list of tasks", "export as JSON, not as a snapshot's description")
    found = Migrated()
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {number}"
        if not isinstance(task, dict):
            raise _not_read(where, "it is no object")
        if isinstance(task.get("annotations"), list):
            for annotation in task["annotations"]:
                if isinstance(annotation, dict):
                    _label_studio(task, annotation, fields, where, found)
        else:
            _label_studio_min(task, fields, where, found)
    return found


def _label_studio(
    task: Mapping[str, Any], annotation: Mapping[str, Any], fields: Fields, where: str, found: Migrated
) -> None:
    data = task.get("data")
    image = _image(data if isinstance(data, dict) else {}, fields, where)
    results = annotation.get("result")
    choices: dict[str, list[str]] = {}
    for result in results if isinstance(results, list) else []:
        value = result.get("value") if isinstance(result, dict) else None
        if isinstance(value, dict) and isinstance(value.get("choices"), list):
            choices.setdefault(str(result.get("from_name")), []).extend(map(str, value["choices"]))
        else:
            found.leave_out("results that are no choices (boxes, text, ...)")
    labels = _labels(choices.get(_only(choices, fields.label, "label", where), []), where)
    if annotation.get("ground_truth") is True:
        found.gold[image] = labels
        return
    skipped = annotation.get("was_cancelled") is True
    by = annotation.get("completed_by")
    worker = by.get("email") or by.get("id") if isinstance(by, dict) else by
    found.answers.append(
        Answer(
            image,
            str(worker if worker is not None else "label-studio"),
            () if skipped else labels,
            AnswerState.UNSURE if skipped else AnswerState.ANSWERED if labels else AnswerState.BLANK,
            job=str(task.get("project") or ""),
            page=str(task.get("id") or ""),
            answered_at=_moment(annotation.get("created_at")),
            seconds=_duration(annotation.get("lead_time")),
        )
    )


def _label_studio_min(task: Mapping[str, Any], fields: Fields, where: str, found: Migrated) -> None:
    """JSON_MIN: the task's data and the controls side by side, one object an annotation."""
    known = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"}
    image = _image({key: value for key, value in task.items() if key not in known}, fields, where)
    controls = {
        key: value["choices"] if isinstance(value, dict) and "choices" in value else value
        for key, value in task.items()
        if key not in known and _plain(str(value)) != image and isinstance(value, str | dict)
    }
    name = _only(controls, fields.label, "label", where)
    value = controls.get(name, [])
    labels = _labels(value if isinstance(value, list) else [value], where)
    found.answers.append(
        Answer(
            image,
            str(task.get("annotator", "label-studio")),
            labels,
            AnswerState.ANSWERED if labels else AnswerState.BLANK,
            page=str(task.get("id") or ""),
            answered_at=_moment(task.get("created_at")),
            seconds=_duration(task.get("lead_time")),
        )
    )


def read_cvat(path: str, fields: Fields) -> Migrated:
    """Tags of images in CVAT's XML.

    Raises:
        InvalidInput: it is no such file. A document type is refused: no export has one, and it can expand without end.
    """
    found, worker = Migrated(), fields.worker or "cvat"
    image: list[str] = []
    tags: list[str] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if name == "image":
            image[:], tags[:] = [attributes.get("name", "")], []
        elif image and name == "tag":
            tags.append(attributes.get("label", ""))
        elif image and name in ("box", "polygon", "polyline", "points", "mask", "cuboid", "ellipse", "skeleton"):
            found.leave_out("shapes")

    def end(name: str) -> None:
        if name == "image":
            if not image[0]:
                raise _not_read(path, "an image has no name")
            labels = _labels(tags, f"{path}, image {image[0]}")
            state = AnswerState.ANSWERED if labels else AnswerState.BLANK
            found.answers.append(Answer(image[0], worker, labels, state))
            image.clear()

    def refuse(*_: object) -> None:
        raise _not_read(path, "it has a document type")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(_text(path).encode(), True)
    except expat.ExpatError as e:
        raise _not_read(path, f"it is no XML: {e}") from e
    return found


def read_toloka(path: str, fields: Fields) -> Migrated:
    """The assignments table of a pool.

    Raises:
        InvalidInput: the columns are missing or not clear.
    """
    found = Migrated()
    for row in _tsv_rows(path):
        inputs, outputs, golden = (_with_prefix(row, prefix) for prefix in ("INPUT:", "OUTPUT:", "GOLDEN:"))
        image = _image(inputs, fields, row.where)
        name = _only(outputs, fields.label, "label", row.where)
        if golden.get(name):
            found.gold[image] = _labels(_cell_labels(golden[name]), row.where)
        if row.text("ASSIGNMENT:status") in _LEFT_OUT_STATES:
            found.leave_out(f"{row.text('ASSIGNMENT:status').lower()} assignments")
            continue
        labels = _labels(_cell_labels(outputs[name]), row.where)
        found.answers.append(
            Answer(
                image,
                row.required("ASSIGNMENT:worker_id"),
                labels,
                AnswerState.ANSWERED if labels else AnswerState.BLANK,
                page=row.text("ASSIGNMENT:assignment_id"),
                answered_at=_moment(row.text("ASSIGNMENT:submitted")),
            )
        )
    return found


def _tsv_rows(path: str) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter="\t", strict=True)
    try:
        check_columns(list(reader.fieldnames or ()), path, ("ASSIGNMENT:worker_id",))
        for values in reader:
            if None in values or None in values.values():
                raise _not_read(f"{path}, line {reader.line_num}", "it has more or fewer cells than the header")
            yield Row(f"{path}, line {reader.line_num}", dict(values))
    except csv.Error as e:
        raise _not_read(f"{path}, line {reader.line_num}", str(e)) from e


def read_table(path: str, fields: Fields) -> Migrated:
    """Any table with a row an answer."""
    image, worker, label = fields.image or "image", fields.worker or "worker", fields.label or "label"
    found = Migrated()
    for row in read_rows(path, (image, worker, label)):
        labels = split_labels(row.text(label))
        state = AnswerState.ANSWERED if labels else AnswerState.BLANK
        found.answers.append(Answer(row.required(image), row.required(worker), labels, state))
    return found


def _image(data: Mapping[str, Any], fields: Fields, where: str) -> str:
    """The image that a task is about: the named field, else `image`, else the only one that looks like an image."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value}
    name = fields.image or ("image" if "image" in texts else "")
    if not name:
        looks = [
            key for key, value in texts.items() if re.search(r"\.(jpe?g|png|webp|gif|bmp|tiff?|avif)\b", value, re.I)
        ]
        name = looks[0] if len(looks) == 1 else ""
    if name not in texts:
        raise InvalidInput(
            f"{where}: no field is clearly the image; there are {', '.join(data) or 'none'}",
            field="image",
            reason="FIELD_NOT_CLEAR",
            fix="name it with --image-field",
        )
    return _plain(texts[name])


def _plain(image: str) -> str:
    """Label Studio's address of a local file as its path; anything else as it is."""
    parts = urlsplit(image)
    if parts.path.endswith("/data/local-files/"):
        return parse_qs(parts.query).get("d", [image])[0]
    return unquote(image) if image.startswith("/data/") else image


def _only(choices: Mapping[str, Any], wanted: str, what: str, where: str) -> str:
    if wanted and (wanted in choices or not choices):
        return wanted
    if len(choices) > 1 or (wanted and choices):
        raise InvalidInput(
            f"{where}: "
            + (f"there is no {wanted!r} among" if wanted else "several fields may hold the label:")
            + f" {', '.join(sorted(choices))}",
            field=what,
            reason="FIELD_NOT_CLEAR",
            fix="name one with --label-field",
        )
    return next(iter(choices), "")


def _with_prefix(row: Row, prefix: str) -> dict[str, str]:
    return {key.removeprefix(prefix): row.text(key) for key in row.values if key.startswith(prefix)}


def _cell_labels(cell: str) -> Iterable[str]:
    """A cell is one label, or a JSON list of them."""
    if cell.startswith("["):
        try:
            many = json.loads(cell)
        except ValueError:
            return [cell]
        return [str(label) for label in many] if isinstance(many, list) else [cell]
    return [cell] if cell else []


def _labels(labels: Iterable[object], where: str) -> tuple[str, ...]:
    """Labels once each, trimmed.

    Raises:
        InvalidInput: one has the separator of our tables in it.
    """
    texts = dict.fromkeys(str(label).strip() for label in labels if label is not None)
    for label in texts:
        if LABEL_SEPARATOR in label:
            raise InvalidInput(
                f"{where}: label {label!r} has a {LABEL_SEPARATOR!r} in it, which separates labels here",
                field="label",
                reason="BAD_LABEL",
                fix="rename the class before you export",
            )
    return tuple(label for label in texts if label)


def _moment(value: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _duration(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise _not_read(path, str(why)) from error


def _not_read(where: str, why: str, fix: str = "") -> InvalidInput:
    return InvalidInput(f"{where} cannot be read: {why}", field="file", reason="CANNOT_READ", fix=fix)


READERS = {"label-studio": read_label_studio, "cvat": read_cvat, "toloka": read_toloka, "table": read_table}
BY_SUFFIX = {".json": "label-studio", ".xml": "cvat", ".tsv": "toloka"}


def gold_rows_of(gold: Mapping[str, tuple[str, ...]]) -> Iterator[Mapping[str, Any]]:
    """Rows of a gold table."""
    return ({"image": image, "label": labels} for image, labels in gold.items())
