# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker's submitted form, read tile by tile. It is hostile input: every part may be anything.

Fields of our page: `labels-<index>` (JSON text of a list of label texts, as in the original), `state-<index>`,
`ms-<index>`. Other fields are ignored. What cannot be read is handed back with the rule that it broke, and costs
no other tile:

    not_json            the form is no JSON text
    not_an_object       the form is no JSON object
    no_labels           the form has no field that says a label
    labels_not_json     a tile's value is text, but not JSON
    labels_not_a_list   a tile's value is neither a list of texts nor marked choices
    unknown_index       the page showed no tile of that index
    unknown_label       the page offered no such label
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from gandt.domain.datasets import LABEL_SEPARATOR, AnswerState

EXCERPT_BYTES = 500
MAX_TILE_SECONDS = 24 * 3600.0  # more is a broken clock, not a slow worker
_LABELS = re.compile(r"labels-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Page:
    """What a page showed.

    Attributes:
        images: tile index to the image: its `id`, else its URI (never the basename: two folders may share it).
        labels: offered label by its normalized text; empty when the page's data does not name them.
        task: our name of the page; "" when it has none.
    """

    images: Mapping[int, str]
    labels: Mapping[str, str] = field(default_factory=dict)
    task: str = ""


@dataclass(frozen=True, slots=True)
class TileAnswer:
    """What the worker said of one tile.

    Attributes:
        seconds: active seconds on the tile; None when the form does not say.
    """

    image_id: str
    labels: tuple[str, ...]
    state: AnswerState
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """A part that could not be read: the rule it broke and its first 500 bytes."""

    rule: str
    excerpt: str


class AnswerError(Exception):
    """Inner signal of this room: carries a Malformed to where the rest of the batch goes on."""

    def __init__(self, rule: str, value: object) -> None:
        super().__init__(rule)
        self.malformed = malformed(rule, value)


def malformed(rule: str, value: object) -> Malformed:
    """The record of a broken part, its text cut at 500 bytes."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return Malformed(rule, text.encode("utf-8", "replace")[:EXCERPT_BYTES].decode("utf-8", "ignore"))


def parse_json(text: str | bytes, rule: str) -> Any:
    """JSON of a stranger.

    Raises:
        AnswerError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as e:
        raise AnswerError(rule, text if isinstance(text, str) else text.decode("utf-8", "replace")) from e


def page_of(tiles: object, task: str = "") -> Page:
    """The page of a group of tiles as it stands in `source`; tiles without index or URI are left out."""
    images: dict[int, str] = {}
    labels: dict[str, str] = {}
    for tile in tiles if isinstance(tiles, list) else []:
        if not isinstance(tile, dict):
            continue
        index, image = tile.get("index"), tile.get("id") or tile.get("source-ref")
        if isinstance(index, int) and not isinstance(index, bool) and is_text(image):
            images[index] = image
        task = str(tile.get("task") or task)
        offered = [*_texts(tile.get("event_names")), *_texts([tile.get("other_category_label")])]
        if tile.get("event_names"):
            labels.update({normalized(label): label for label in offered})
    return Page(images, labels, task)


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value is text that every table can hold (JSON may carry half a surrogate pair)."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def parse_seconds(value: object, units_per_second: float = 1) -> float | None:
    """A duration as finite seconds of at most a day, or None."""
    try:
        seconds = float(value) / units_per_second  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= MAX_TILE_SECONDS else None


def normalized(label: str) -> str:
    """A label's text without HTML entities and superfluous white space."""
    return " ".join(html.unescape(label).split())


def read_form(content: object, page: Page) -> tuple[list[TileAnswer], list[Malformed]]:
    """The tiles of one form, in the form's order, and what could not be read."""
    try:
        form = _form(content)
    except AnswerError as e:
        return [], [e.malformed]
    answers: list[TileAnswer] = []
    broken: list[Malformed] = []
    found = False
    for name, value in _values(form, page):
        found = True
        try:
            answers.append(_tile(name, value, form, page))
        except AnswerError as e:
            broken.append(e.malformed)
    return answers, broken if found else [malformed("no_labels", form)]


def _form(content: object) -> dict[str, Any]:
    value = parse_json(content, "not_json") if isinstance(content, str | bytes) else content
    for _ in range(2):  # some crowd elements wrap the form in a list of one, or in `annotatedResult`
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict) and "annotatedResult" in value:
            value = value["annotatedResult"]
    if not isinstance(value, dict):
        raise AnswerError("not_an_object", value)
    return value


def _values(form: dict[str, Any], page: Page) -> list[tuple[str, Any]]:
    """The fields that speak of a tile: name and value."""
    found = [(name, value) for name, value in form.items() if _LABELS.fullmatch(name)]
    if not found and len(page.images) == 1:  # a page of one picture may use one of AWS's classifier elements
        chosen = [value for value in form.values() if isinstance(value, dict) and _classified(value) is not None]
        found = [(f"labels-{next(iter(page.images))}", value) for value in chosen[:1]]
    return found


def _tile(name: str, value: object, form: dict[str, Any], page: Page) -> TileAnswer:
    excerpt = {name: value}
    index = int(name.removeprefix("labels-"))
    if index not in page.images:
        raise AnswerError("unknown_index", excerpt)
    if isinstance(value, str):
        value = parse_json(value, "labels_not_json")
    chosen = _chosen(value)
    if chosen is None:
        raise AnswerError("labels_not_a_list", excerpt)
    labels = []
    for label in chosen:
        known = page.labels.get(normalized(label)) if page.labels else normalized(label)
        if not known or LABEL_SEPARATOR in known:  # a `|` would read as two labels in every table
            raise AnswerError("unknown_label", excerpt)
        labels.append(known)
    return TileAnswer(page.images[index], tuple(labels), _state(form, index, labels), _seconds(form, index))


def _chosen(value: object) -> list[str] | None:
    """The label texts of a value, or None when it is no answer."""
    if isinstance(value, list):
        return value if all(is_text(label) for label in value) else None
    if isinstance(value, dict):
        if all(isinstance(mark, bool) for mark in value.values()):  # check boxes
            return [label for label, mark in value.items() if mark and is_text(label)]
        return _classified(value)
    return None


def _classified(value: dict[str, Any]) -> list[str] | None:
    """What crowd-classifier (`label`) and its multi-select form (`labels`) submit."""
    if is_text(value.get("label")):
        return [value["label"]]
    many = value.get("labels")
    return list(many) if isinstance(many, list) and all(is_text(label) for label in many) else None


def _state(form: dict[str, Any], index: int, labels: list[str]) -> AnswerState:
    """The state that the form names. No labels is blank, never "other"; labels are an answer."""
    named = form.get(f"state-{index}")
    if named in (AnswerState.UNSURE, AnswerState.BROKEN):
        return AnswerState(named)
    return AnswerState.ANSWERED if labels else AnswerState.BLANK


def _seconds(form: dict[str, Any], index: int) -> float | None:
    return parse_seconds(form.get(f"ms-{index}"), 1000)


def _texts(values: object) -> list[str]:
    return [value for value in values if is_text(value)] if isinstance(values, list) else []
