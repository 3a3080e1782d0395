# SPDX-License-Identifier: GPL-3.0-or-later
"""Which items of a block can be stored: the checks that a Milvus cluster makes, and some that it should."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import GandtError, InvalidInput
from gandt.domain.fields import check_fields
from gandt.domain.search_records import Fields, ItemSet, RejectedItem
from gandt.domain.vectors import VectorSet, check_id, squared_lengths

MAX_FIELDS_BYTES = 65_536  # of one item's fields as JSON; a cluster's limit
SHORTEST, LONGEST = 1e-15, 1e15  # lengths whose float32 products neither vanish nor overflow


def sort_out(items: ItemSet, dim: int, sequence: int = 0) -> tuple[ItemSet, tuple[RejectedItem, ...]]:
    """Part a block into what can be stored and what cannot.

    Args:
        items: as they came; ids may repeat, fields are one mapping a row or none at all.
        dim: numbers in a vector of the collection.
        sequence: position of the block's first item in its stream.
    Returns:
        The good items with distinct ids (of an id given twice the last good one), and the others with the reason.
    Raises:
        InvalidInput: the number of fields is neither that of the rows nor zero.
    """
    if items.fields and len(items.fields) != len(items):
        raise InvalidInput(
            f"a block has {len(items)} vectors and fields for {len(items.fields)}", field="fields", reason="BAD_FIELDS"
        )
    problems = vector_problems(items.vectors.matrix, dim) if len(items) else []
    rejected: list[RejectedItem] = []
    last: dict[str, int] = {}
    for row, image_id in enumerate(items.ids):
        error = _problem(image_id, problems[row], items.fields[row] if items.fields else {})
        if error is not None:
            rejected.append(RejectedItem(sequence + row, image_id, error))
        else:
            last[image_id] = row
    if len(last) == len(items):
        return items, ()
    rows = sorted(last.values())
    fields = tuple(items.fields[row] for row in rows) if items.fields else ()
    matrix = items.vectors.matrix[rows] if rows else np.zeros((0, dim), np.float32)
    good = VectorSet([items.ids[row] for row in rows], matrix, items.vectors.model_id)
    return ItemSet(good, fields), tuple(rejected)


def vector_problems(matrix: NDArray[np.floating], dim: int) -> list[str]:
    """Per row: why the vector cannot be compared, as the end of a sentence; "" when it can."""
    if matrix.shape[1] != dim:
        return [f"has {matrix.shape[1]} numbers, the collection's have {dim}"] * len(matrix)
    out = []
    for length in np.sqrt(squared_lengths(matrix)).tolist():
        if not np.isfinite(length):
            out.append("holds NaN or an infinite number")
        elif length == 0:
            out.append("is zero and has no direction")
        elif not SHORTEST <= length <= LONGEST:
            out.append(f"has length {length:.3g}, which float32 cannot compare")
        else:
            out.append("")
    return out


def _problem(image_id: str, vector_problem: str, fields: Fields) -> GandtError | None:
    try:
        check_id(image_id)
        check_fields(fields)
    except InvalidInput as error:
        if error.field == "fields":
            return InvalidInput(f"image {image_id!r}: {error.message}", field="fields", reason=error.reason)
        return error
    if vector_problem:
        reason = "WRONG_DIM" if "the collection's have" in vector_problem else "BAD_VECTOR"
        return InvalidInput(f"the vector of image {image_id!r} {vector_problem}", field="vectors", reason=reason)
    if fields and (size := len(json.dumps(dict(fields)).encode())) > MAX_FIELDS_BYTES:
        return InvalidInput(
            f"the fields of image {image_id!r} take {size} bytes as JSON, at most {MAX_FIELDS_BYTES} are allowed",
            field="fields",
            reason="BAD_FIELD",
        )
    return None
