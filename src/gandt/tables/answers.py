# SPDX-License-Identifier: GPL-3.0-or-later
"""answers tables: `image,worker,label`, optional `job,page,time,seconds,state`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from gandt.domain.datasets import LABEL_SEPARATOR, Answer, AnswerState, split_labels
from gandt.domain.errors import InvalidInput
from gandt.tables.files import Row, read_rows, write_rows

ANSWER_COLUMNS = ("image", "worker", "label", "job", "page", "time", "seconds", "state")
ALIASES = {"task": "image"}  # crowd-kit's name
MOST_CELLS = 100_000  # different label cells that are remembered
_STATES = frozenset(AnswerState)


def read_answers(path: str, multi_label: bool = False, raw: bool = False) -> Iterator[Answer]:
    """The answers of a table, streamed in order.

    Args:
        path: .csv, .jsonl, .parquet or `-`.
        multi_label: whether an answered empty label means "none of these"; otherwise it is blank.
        raw: as the original counts: an empty answer is ANSWERED, and labels are not trimmed.
    Raises:
        InvalidInput: an empty cell, an unknown state, a time that is no ISO 8601; names file and line.
    """
    seen: dict[str, tuple[str, ...]] = {}  # few cells differ in a long table
    for row in read_rows(path, ("image", "worker", "label"), ALIASES):
        cell = row.text("label")
        labels = seen.get(cell)
        if labels is None:
            labels = tuple(part for part in cell.split(LABEL_SEPARATOR) if part) if raw else split_labels(cell)
            if len(seen) < MOST_CELLS:
                seen[cell] = labels
        has = row.values.__contains__  # columns that are not there are not looked at a million times
        yield Answer(
            image_id=row.required("image"),
            worker_id=row.required("worker"),
            labels=labels,
            state=_state(row, labels, multi_label or raw),
            job=row.text("job") if has("job") else "",
            page=row.text("page") if has("page") else "",
            answered_at=_time(row) if has("time") else None,
            seconds=_seconds(row) if has("seconds") else None,
        )


def _seconds(row: Row) -> float | None:
    seconds = row.number("seconds", -1.0)
    return seconds if seconds >= 0 else None


def _state(row: Row, labels: tuple[str, ...], empty_is_answer: bool) -> AnswerState:
    cell = row.text("state").strip() or AnswerState.ANSWERED
    if cell not in _STATES:
        raise InvalidInput(
            f"{row.where}: state {cell!r} is none of {', '.join(AnswerState)}", field="state", reason="BAD_STATE"
        )
    if cell == AnswerState.ANSWERED and not labels and not empty_is_answer:
        return AnswerState.BLANK
    return AnswerState(cell)


def _time(row: Row) -> datetime | None:
    value = row.values.get("time")
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    cell = row.text("time").strip()
    if not cell:
        return None
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError as e:
        raise InvalidInput(
            f"{row.where}: time {cell!r} is not ISO 8601, as 2026-11-23T16:38:58Z", field="time", reason="BAD_TIME"
        ) from e
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def answer_row(answer: Answer) -> Mapping[str, Any]:
    """One row of an answers table."""
    return {
        "image": answer.image_id,
        "worker": answer.worker_id,
        "label": answer.labels,
        "job": answer.job,
        "page": answer.page,
        "time": answer.answered_at.isoformat() if answer.answered_at else None,
        "seconds": answer.seconds,
        "state": str(answer.state),
    }


def write_answers(path: str, answers: Iterable[Answer]) -> int:
    """Writes answers with all columns of the format."""
    return write_rows(path, ANSWER_COLUMNS, map(answer_row, answers))
