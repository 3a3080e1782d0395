# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer as a page hands it in: hostile input with a cap, and the refusals a worker may get."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sqlalchemy import Row

from gandt.domain.errors import InvalidInput, WrongState

MAX_ANSWER_BYTES = 256 * 1024
MAX_DEPTH = 64  # far below the nesting at which a JSON reader gives up: the answer is read again by others


def answer_text(answer: Any) -> str:
    """The JSON text that is kept.

    Raises:
        InvalidInput: not a JSON object, larger than 256 KiB, nested too deeply, or with a number that JSON lacks.
    """
    if not isinstance(answer, dict):
        raise InvalidInput("an answer is a JSON object of field names and values", field="answer")
    if _is_deep(answer):
        raise InvalidInput(f"an answer has at most {MAX_DEPTH} levels", field="answer")
    try:
        text = json.dumps(answer, allow_nan=False)
    except ValueError as error:
        raise InvalidInput("an answer has no NaN and no infinite number", field="answer") from error
    if len(text) > MAX_ANSWER_BYTES:
        raise InvalidInput(
            f"this answer is {len(text)} bytes long; the limit is {MAX_ANSWER_BYTES}",
            field="answer",
            reason="ANSWER_TOO_LARGE",
        )
    return text


def _is_deep(answer: Any) -> bool:
    level = [answer]
    for _ in range(MAX_DEPTH):
        nested = [each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)]
        level = [member for members in nested for member in members]
    return any(isinstance(each, dict | list) for each in level)


def digest(text: str) -> str:
    """The same for answers that differ only in the order of their keys."""
    return hashlib.sha256(json.dumps(json.loads(text), sort_keys=True).encode()).hexdigest()


def seconds(value: Any) -> float:
    """A duration as a page reports it: hostile input, so anything odd is 0."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e6 else 0.0


def expired(row: Row[Any]) -> WrongState:
    """The lease ran out, and its slot is gone."""
    return WrongState(
        "the time for this page is over and somebody else may have it; your answer is kept as a draft",
        kind="lease",
        id=row.lease_id,
        state=row.state,
        reason="LEASE_EXPIRED",
        fix="ask for the next task",
    )


def over(row: Row[Any]) -> WrongState:
    """The lease was given back or declined."""
    return WrongState(
        f"this page is {row.state} already",
        kind="lease",
        id=row.lease_id,
        state=row.state,
        reason="LEASE_OVER",
        fix="ask for the next task",
    )


def already_answered(row: Row[Any]) -> WrongState:
    """The lease has an answer, and another one came."""
    return WrongState(
        "this page was submitted before with another answer; the first one stands",
        kind="lease",
        id=row.lease_id,
        state="done",
        reason="ALREADY_ANSWERED",
        fix="ask for the next task",
    )
