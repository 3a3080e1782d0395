# SPDX-License-Identifier: GPL-3.0-or-later
"""Conditions on an item's id or fields: one tree, read as a NumPy mask, item by item, or as a Milvus expression.

The three readings agree: numbers compare by value across integers and reals, text and truth values only
with their own kind, and a field that an item lacks matches nothing (so `Not` of it holds).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.fields import (
    INT64_MAX,
    INT64_MIN,
    Column,
    FieldValue,
    Kind,
    check_field_name,
    check_value,
    kind_of,
)
from gandt.domain.vectors import check_id

Mask = NDArray[np.bool_]
MAX_FILTER_DEPTH = 32
MAX_FILTER_NODES = 4096
MAX_FILTER_BYTES = 8 << 20  # of its texts and ids; a Milvus cluster parses long ones slowly


@dataclass(frozen=True, slots=True)
class And:
    """All operands hold; holds when there is none."""

    operands: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Or:
    """At least one operand holds; does not hold when there is none."""

    operands: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Not:
    """The operand does not hold."""

    operand: Filter


@dataclass(frozen=True, slots=True)
class In:
    """A field equals one of some values of one kind."""

    field: str
    values: tuple[FieldValue, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A number field lies in a range; bounds that are None are open."""

    field: str
    gte: float | None = None
    gt: float | None = None
    lte: float | None = None
    lt: float | None = None


@dataclass(frozen=True, slots=True)
class Exists:
    """A field is present."""

    field: str


@dataclass(frozen=True, slots=True)
class Ids:
    """The item's id is one of these."""

    ids: tuple[str, ...]


Filter = And | Or | Not | In | Range | Exists | Ids


def walk(condition: Filter) -> Iterator[Filter]:
    """The condition and everything below it."""
    yield condition
    if isinstance(condition, And | Or):
        for operand in condition.operands:
            yield from walk(operand)
    elif isinstance(condition, Not):
        yield from walk(condition.operand)


def ids_in(condition: Filter | None) -> set[str]:
    """Every id that the condition names; what a reader must look up before `mask`."""
    if condition is None:
        return set()
    return {image_id for node in walk(condition) if isinstance(node, Ids) for image_id in node.ids}


def check(condition: Filter, depth: int = 0) -> None:
    """Refuse what cannot be compared.

    Raises:
        InvalidInput: a bad field name, id or value, values of several kinds, no value, a bound that is not
            finite, or a tree that is too deep or too large.
    """
    if depth == 0:
        _check_size(condition)
    if isinstance(condition, And | Or):
        for operand in condition.operands:
            check(operand, depth + 1)
    elif isinstance(condition, Not):
        check(condition.operand, depth + 1)
    elif isinstance(condition, In):
        check_field_name(condition.field)
        if len({kind_of(value) for value in condition.values}) != 1:
            raise _bad(f"compares field {condition.field!r} with values of several kinds, or with none")
        for value in condition.values:
            check_value(condition.field, value)
    elif isinstance(condition, Range):
        check_field_name(condition.field)
        bounds = (condition.gte, condition.gt, condition.lte, condition.lt)
        if any(bound is not None and not math.isfinite(bound) for bound in bounds):
            raise _bad(f"bounds field {condition.field!r} by a number that is not finite")
    elif isinstance(condition, Exists):
        check_field_name(condition.field)
    elif isinstance(condition, Ids):
        for image_id in condition.ids:
            check_id(image_id, "filter.ids")


def matches(condition: Filter | None, image_id: str, fields: Mapping[str, FieldValue]) -> bool:
    """Whether one item fulfills the condition; None keeps everything."""
    if condition is None:
        return True
    if isinstance(condition, And):
        return all(matches(operand, image_id, fields) for operand in condition.operands)
    if isinstance(condition, Or):
        return any(matches(operand, image_id, fields) for operand in condition.operands)
    if isinstance(condition, Not):
        return not matches(condition.operand, image_id, fields)
    if isinstance(condition, Ids):
        return image_id in condition.ids
    value = fields.get(condition.field)
    if value is None:
        return False
    if isinstance(condition, Exists):
        return True
    if isinstance(condition, In):
        return any(_same_family(value, wanted) and value == wanted for wanted in condition.values)
    if isinstance(value, bool | str):
        return False
    return (
        (condition.gte is None or value >= condition.gte)
        and (condition.gt is None or value > condition.gt)
        and (condition.lte is None or value <= condition.lte)
        and (condition.lt is None or value < condition.lt)
    )


def mask(
    condition: Filter | None, rows: int, columns: Mapping[str, Column], row_of: Callable[[str], int | None]
) -> Mask:
    """bool[rows]: which rows of a table fulfill the condition.

    Args:
        rows: rows of the table to look at.
        columns: the table's fields; a field that is not there is absent everywhere.
        row_of: the row of an id, or None.
    """
    if condition is None:
        return np.ones(rows, np.bool_)
    if isinstance(condition, And | Or):
        out = np.full(rows, isinstance(condition, And))
        for operand in condition.operands:
            part = mask(operand, rows, columns, row_of)
            out = out & part if isinstance(condition, And) else out | part
        return out
    if isinstance(condition, Not):
        return ~mask(condition.operand, rows, columns, row_of)
    out = np.zeros(rows, np.bool_)
    if isinstance(condition, Ids):
        for image_id in condition.ids:
            row = row_of(image_id)
            if row is not None and row < rows:
                out[row] = True
        return out
    column = columns.get(condition.field)
    if column is None:
        return out
    if isinstance(condition, Exists):
        present: Mask = column.kinds(rows) != Kind.ABSENT
        return present
    if isinstance(condition, In):
        return _in_mask(condition, column, rows)
    return _range_mask(condition, column, rows)


def compile_milvus(condition: Filter, id_field: str = "id", fields_field: str = "fields") -> str:
    """The condition as a Milvus expression; every text in it is escaped, every name is checked.

    Each leaf names its own `exists`, so that a missing field is false rather than unknown and negation is plain.
    """
    if isinstance(condition, And | Or):
        if not condition.operands:
            return f'{id_field} != ""' if isinstance(condition, And) else f'{id_field} == ""'
        word = " and " if isinstance(condition, And) else " or "
        return "(" + word.join(compile_milvus(operand, id_field, fields_field) for operand in condition.operands) + ")"
    if isinstance(condition, Not):
        return f"(not {compile_milvus(condition.operand, id_field, fields_field)})"
    if isinstance(condition, Ids):
        return (
            f"({id_field} in [{', '.join(quoted(i) for i in condition.ids)}])"
            if condition.ids
            else compile_milvus(Or())
        )
    check_field_name(condition.field)
    name = f'{fields_field}["{condition.field}"]'
    if isinstance(condition, Exists):
        return f"(exists {name})"
    if isinstance(condition, In):
        tests = " or ".join(f"{name} == {_literal(value)}" for value in condition.values)
        return f"(exists {name} and ({tests}))"
    bounds = ((">=", condition.gte), (">", condition.gt), ("<=", condition.lte), ("<", condition.lt))
    tests = " and ".join(f"{name} {sign} {_literal(float(bound))}" for sign, bound in bounds if bound is not None)
    # An open range still asks for a number: 1e308 and its negative stand for no bound.
    return f"(exists {name} and ({tests or f'{name} <= 1.7e308 and {name} >= -1.7e308'}))"


def quoted(text: str) -> str:
    """A text as a double-quoted literal of a Milvus expression."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def _literal(value: FieldValue) -> str:
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def _bad(problem: str) -> InvalidInput:
    return InvalidInput(f"the filter {problem}", field="filter", reason="BAD_FILTER")


def _check_size(condition: Filter) -> None:
    """Without recursion, as the tree may be deeper than Python's stack."""
    nodes = size = 0
    pending: list[tuple[Filter, int]] = [(condition, 0)]
    while pending:
        node, depth = pending.pop()
        nodes += 1
        if depth > MAX_FILTER_DEPTH or nodes > MAX_FILTER_NODES:
            raise _bad(f"has more than {MAX_FILTER_DEPTH} levels or {MAX_FILTER_NODES} conditions")
        if isinstance(node, And | Or):
            pending += [(operand, depth + 1) for operand in node.operands]
        elif isinstance(node, Not):
            pending.append((node.operand, depth + 1))
        elif isinstance(node, Ids | In):
            texts = node.ids if isinstance(node, Ids) else node.values
            size += sum(len(text.encode("utf-8", "replace")) if isinstance(text, str) else 8 for text in texts)
        if size > MAX_FILTER_BYTES:
            raise _bad(f"names over {MAX_FILTER_BYTES:,} bytes of ids and values")


def _same_family(left: FieldValue, right: FieldValue) -> bool:
    numbers = (Kind.INT, Kind.REAL)
    kinds = kind_of(left), kind_of(right)
    return kinds[0] == kinds[1] or (kinds[0] in numbers and kinds[1] in numbers)


def _in_mask(condition: In, column: Column, rows: int) -> Mask:
    kinds, cells, reals = column.kinds(rows), column.cells(rows), column.reals(rows)
    kind = kind_of(condition.values[0])
    found: Mask
    if kind == Kind.TEXT:
        codes = [column.code(str(value)) for value in condition.values]
        found = (kinds == Kind.TEXT) & np.isin(cells, codes)
        return found
    if kind == Kind.BOOL:
        found = (kinds == Kind.BOOL) & np.isin(cells, [int(value) for value in condition.values])
        return found
    # A number may be stored as either kind; only a conversion that is exact can be equal.
    numbers = [value for value in condition.values if isinstance(value, int | float)]
    ints = [int(v) for v in numbers if v == math.floor(v) and INT64_MIN <= v <= INT64_MAX]
    floats = [float(v) for v in numbers if float(v) == v]
    same_int = np.isin(cells, np.array(ints, np.int64))
    with np.errstate(invalid="ignore"):
        same_real = np.isin(reals, np.array(floats, np.float64))
    found = ((kinds == Kind.INT) & same_int) | ((kinds == Kind.REAL) & same_real)
    return found


def _range_mask(condition: Range, column: Column, rows: int) -> Mask:
    kinds, cells, reals = column.kinds(rows), column.cells(rows), column.reals(rows)
    # Integers compare with integer bounds: above 2**53 a float would round the stored number.
    low, high = INT64_MIN, INT64_MAX
    if condition.gte is not None:
        low = max(low, math.ceil(condition.gte))
    if condition.gt is not None:
        low = max(low, math.floor(condition.gt) + 1)
    if condition.lte is not None:
        high = min(high, math.floor(condition.lte))
    if condition.lt is not None:
        high = min(high, math.ceil(condition.lt) - 1)
    ints = kinds == Kind.INT
    ints &= (cells >= low) & (cells <= high) if low <= high else np.zeros(rows, np.bool_)
    real = kinds == Kind.REAL
    with np.errstate(invalid="ignore"):
        if condition.gte is not None:
            real &= reals >= condition.gte
        if condition.gt is not None:
            real &= reals > condition.gt
        if condition.lte is not None:
            real &= reals <= condition.lte
        if condition.lt is not None:
            real &= reals < condition.lt
    found: Mask = ints | real
    return found
