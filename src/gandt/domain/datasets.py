# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers, labels and label estimates: the records that the services exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from gandt.domain.errors import InvalidInput

LABEL_SEPARATOR = "|"
MAX_LABEL_CHARACTERS = 256  # Ground Truth's limit


class AnswerState(StrEnum):
    """What a worker did with one tile; only ANSWERED votes."""

    ANSWERED = "answered"
    BLANK = "blank"
    UNSURE = "unsure"
    BROKEN = "broken"


class Arm(StrEnum):
    """Why an image was picked: by the ranking, by the uniform control draw, or to explore."""

    MAIN = "main"
    CONTROL = "control"
    EXPLORE = "explore"


class LabelStatus(StrEnum):
    """How far an image's label can be trusted."""

    CERTAIN = "certain"
    UNCERTAIN = "uncertain"
    TIED = "tied"
    UNLABELED = "unlabeled"


@dataclass(frozen=True, slots=True)
class Answer:
    """What one worker said of one image; raw and immutable.

    Attributes:
        labels: the chosen labels in the worker's order; may repeat in raw data.
        answered_at: aware UTC time, or None when the source had none.
        seconds: active seconds spent on the tile; None when not measured.
        job, page: where it was given; "" when unknown.
    """

    image_id: str
    worker_id: str
    labels: tuple[str, ...]
    state: AnswerState = AnswerState.ANSWERED
    job: str = ""
    page: str = ""
    answered_at: datetime | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class LabeledImage:
    """An image with its known labels, as training data for selection.

    Attributes:
        labels: one or more label names.
        probability: how sure the label is, in [0, 1]; 1 for a person's own seed label.
        inclusion_probability: chance with which the image was drawn; 0 when unknown.
    """

    image_id: str
    labels: tuple[str, ...]
    probability: float = 1.0
    arm: str = ""
    round: int = 0
    inclusion_probability: float = 0.0


@dataclass(frozen=True, slots=True)
class LabelEstimate:
    """Aggregation's verdict on one image.

    Attributes:
        labels: the chosen labels (the tied ones when tied; () when unlabeled).
        confidence: probability of the chosen label (set), in [0, 1].
        posterior: f64[K] as a tuple, over the label space; () when the method gives none.
        answers: votes counted.
        agreeing: workers whose answer contains the label (set).
    """

    image_id: str
    labels: tuple[str, ...]
    confidence: float
    status: LabelStatus
    answers: int
    agreeing: int
    posterior: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """All labels that an image may get.

    Attributes:
        classes: label names in the order that people chose; K of them, "other" included when asked for.
        other_label: the label that means "none of these"; "" when there is none.
        multi_label: whether an image may carry several labels.
    """

    classes: tuple[str, ...]
    other_label: str = ""
    multi_label: bool = False


def check_classes(classes: Sequence[str], field: str = "classes") -> tuple[str, ...]:
    """Trimmed class names, checked.

    Raises:
        InvalidInput: none given, an empty or too long name, a `|` in a name, or two names
            that are equal after trimming and case folding.
    """
    names = tuple(name.strip() for name in classes)
    if not names:
        raise InvalidInput(
            "no classes were given", field=field, reason="NO_CLASSES", fix="name at least one, as in --classes cat,dog"
        )
    seen: dict[str, str] = {}
    for name in names:
        if not name:
            raise InvalidInput("a class name is empty", field=field, reason="BAD_CLASS")
        if len(name) > MAX_LABEL_CHARACTERS:
            raise InvalidInput(
                f"class {name[:40]!r} has {len(name)} characters, at most {MAX_LABEL_CHARACTERS} are allowed",
                field=field,
                reason="BAD_CLASS",
            )
        if LABEL_SEPARATOR in name or any(ord(c) < 32 for c in name):
            raise InvalidInput(
                f"class {name!r} may not contain '|' or a control character", field=field, reason="BAD_CLASS"
            )
        if name.casefold() in seen:
            raise InvalidInput(
                f"classes {seen[name.casefold()]!r} and {name!r} are the same but for case",
                field=field,
                reason="BAD_CLASS",
            )
        seen[name.casefold()] = name
    return names


def join_labels(labels: Sequence[str]) -> str:
    """Several labels in one table cell: `a|b`."""
    return LABEL_SEPARATOR.join(labels)


def split_labels(cell: str) -> tuple[str, ...]:
    """The labels of a table cell, trimmed, empty ones dropped, order kept."""
    return tuple(part for part in (piece.strip() for piece in cell.split(LABEL_SEPARATOR)) if part)
