# SPDX-License-Identifier: GPL-3.0-or-later
"""Fields of stored items: checked values, and growable typed columns that filters read without Python loops."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput

FieldValue = str | int | float | bool
MAX_FIELDS = 32
MAX_FIELD_BYTES = 4096
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
T = TypeVar("T", bound=np.generic)
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")


class Kind(IntEnum):
    """What a cell of a column holds."""

    ABSENT = 0
    TEXT = 1
    INT = 2
    REAL = 3
    BOOL = 4


def kind_of(value: FieldValue) -> Kind:
    """The kind of a value; True and False are BOOL, never INT."""
    if isinstance(value, bool):
        return Kind.BOOL
    if isinstance(value, int):
        return Kind.INT
    return Kind.REAL if isinstance(value, float) else Kind.TEXT


def check_field_name(name: str) -> None:
    """Raise InvalidInput unless the name is [A-Za-z_][A-Za-z0-9_]* of at most 255 characters."""
    if not _FIELD_NAME.match(name):
        raise InvalidInput(
            f"field name {name[:40]!r} is not of the form [A-Za-z_][A-Za-z0-9_]*", field="fields", reason="BAD_FIELD"
        )


def check_value(name: str, value: FieldValue) -> None:
    """Raise InvalidInput unless a value can be stored and compared in every store.

    Raises:
        InvalidInput: text over 4 KiB or with a NUL, an integer beyond 64 bits, or a real number that is not finite.
    """
    problem = ""
    if isinstance(value, str):
        size = len(value.encode("utf-8", "surrogatepass"))
        if size > MAX_FIELD_BYTES:
            problem = f"has {size} bytes, at most {MAX_FIELD_BYTES} are allowed"
        elif "\0" in value or any(0xD800 <= ord(c) <= 0xDFFF for c in value):
            problem = "holds a NUL or half a surrogate pair"
    elif isinstance(value, float):
        if not math.isfinite(value):
            problem = "is not a finite number"
    elif not isinstance(value, bool) and not INT64_MIN <= value <= INT64_MAX:
        problem = "does not fit into 64 bits"
    if problem:
        raise InvalidInput(f"field {name!r} {problem}", field="fields", reason="BAD_FIELD")


def check_fields(fields: Mapping[str, FieldValue]) -> None:
    """Raise InvalidInput unless the fields of one item are at most 32, well named and storable."""
    if len(fields) > MAX_FIELDS:
        raise InvalidInput(
            f"an item has {len(fields)} fields, at most {MAX_FIELDS} are allowed", field="fields", reason="BAD_FIELD"
        )
    for name, value in fields.items():
        check_field_name(name)
        check_value(name, value)


class Column:
    """One field of all rows: a kind and 64 bits a cell; texts are numbered by first appearance.

    Cells are only ever appended, so a reader that knows its row count may read while a writer
    appends. 9 bytes a row and each distinct text once.
    """

    def __init__(self) -> None:
        self._kinds = np.zeros(0, np.uint8)
        self._cells = np.zeros(0, np.int64)
        self._texts: list[str] = []
        self._codes: dict[str, int] = {}

    def set(self, row: int, value: FieldValue) -> None:
        """Write one cell of a new row; cells between the old end and it stay absent."""
        if row >= len(self._kinds):
            room = max(1024, 2 * len(self._kinds), row + 1)
            self._kinds = _grown(self._kinds, room)
            self._cells = _grown(self._cells, room)
        kind = kind_of(value)
        if isinstance(value, str):
            if value not in self._codes:
                self._codes[value] = len(self._texts)
                self._texts.append(value)
            self._cells[row] = self._codes[value]
        elif isinstance(value, float):
            self._cells[row : row + 1].view(np.float64)[0] = value
        else:
            self._cells[row] = value
        self._kinds[row] = kind

    def value(self, row: int) -> FieldValue | None:
        """The value of one cell; None when absent."""
        kind = self._kinds[row] if row < len(self._kinds) else Kind.ABSENT
        if kind == Kind.ABSENT:
            return None
        if kind == Kind.TEXT:
            return self._texts[int(self._cells[row])]
        if kind == Kind.REAL:
            return float(self._cells[row : row + 1].view(np.float64)[0])
        return bool(self._cells[row]) if kind == Kind.BOOL else int(self._cells[row])

    def kinds(self, rows: int) -> NDArray[np.uint8]:
        """u8[rows]: the kind of each cell."""
        return _head(self._kinds, rows)

    def cells(self, rows: int) -> NDArray[np.int64]:
        """i64[rows]: text codes, integers, truth values, or the bits of real numbers."""
        return _head(self._cells, rows)

    def reals(self, rows: int) -> NDArray[np.float64]:
        """f64[rows]: the cells read as real numbers; meaningful where the kind is REAL."""
        return self.cells(rows).view(np.float64)

    def code(self, text: str) -> int:
        """The number of a text; -1 when no row ever held it."""
        return self._codes.get(text, -1)


def _grown(array: NDArray[T], room: int) -> NDArray[T]:
    out = np.zeros(room, array.dtype)
    out[: len(array)] = array
    return out


def _head(array: NDArray[T], rows: int) -> NDArray[T]:
    return array[:rows] if len(array) >= rows else _grown(array, rows)
