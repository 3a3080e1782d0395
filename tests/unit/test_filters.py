# SPDX-License-Identifier: GPL-3.0-or-later
"""Filters: the mask, the item-by-item reading and the refusals agree."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain import filters
from gandt.domain.errors import InvalidInput
from gandt.domain.fields import Column, FieldValue, check_fields
from gandt.domain.filters import And, Exists, Filter, Ids, In, Not, Or, Range

NAMES = ("a", "b", "c")
IDS = [f"i{n}" for n in range(12)]
TEXTS = st.sampled_from(["", "x", 'q"uote', "back\\slash", "new\nline", "日本"])
INTS = st.one_of(st.integers(-3, 3), st.sampled_from([2**53, 2**53 + 1, -(2**63), 2**63 - 1]))
REALS = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, 1.0, 2.5, float(2**53)]))
VALUES: st.SearchStrategy[FieldValue] = st.one_of(TEXTS, INTS, REALS, st.booleans())
BOUNDS = st.one_of(st.none(), REALS)
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    *[
        st.builds(In, st.sampled_from(NAMES), st.lists(kind, min_size=1, max_size=3).map(tuple))
        for kind in (TEXTS, INTS, REALS, st.booleans())
    ],
    st.builds(Range, st.sampled_from(NAMES), BOUNDS, BOUNDS, BOUNDS, BOUNDS),
    st.builds(Exists, st.sampled_from(NAMES)),
    st.builds(Ids, st.lists(st.sampled_from([*IDS, "absent"]), max_size=4).map(tuple)),
)
TREES: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=8,
)
ITEMS = st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES), min_size=len(IDS), max_size=len(IDS))


def columns_of(items: list[dict[str, FieldValue]]) -> dict[str, Column]:
    columns: dict[str, Column] = {}
    for row, fields in enumerate(items):
        for name, value in fields.items():
            columns.setdefault(name, Column()).set(row, value)
    return columns


@settings(deadline=None, max_examples=120)
@given(TREES, ITEMS)
def test_mask_is_the_item_by_item_reading(condition: Filter, items: list[dict[str, FieldValue]]) -> None:
    filters.check(condition)
    row_of = {image_id: row for row, image_id in enumerate(IDS)}.get
    mask = filters.mask(condition, len(IDS), columns_of(items), row_of)
    expected = [filters.matches(condition, image_id, items[row]) for row, image_id in enumerate(IDS)]
    assert mask.tolist() == expected


@given(st.dictionaries(st.sampled_from(NAMES), VALUES))
def test_a_column_gives_back_what_was_set(fields: dict[str, FieldValue]) -> None:
    columns = columns_of([{}, fields])
    for name, value in fields.items():
        back = columns[name].value(1)
        assert back == value
        assert type(back) is type(value)
        assert columns[name].value(0) is None
        assert columns[name].value(5) is None


def test_empty_and_holds_and_empty_or_does_not() -> None:
    assert filters.matches(And(), "x", {})
    assert not filters.matches(Or(), "x", {})
    assert filters.matches(None, "x", {})


@pytest.mark.parametrize(
    "condition",
    [
        In("a", ()),
        In("a", (1, "x")),
        In("a", (True, 1)),
        In("a b", (1,)),
        In('a"] or id != "', (1,)),
        Range("a", gte=float("nan")),
        Range("1a", gte=1.0),
        Exists(""),
    ],
)
def test_what_cannot_be_compared_is_refused(condition: Filter) -> None:
    with pytest.raises(InvalidInput):
        filters.check(condition)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    deep: Filter = Exists("a")
    for _ in range(filters.MAX_FILTER_DEPTH + 1):
        deep = Not(deep)
    with pytest.raises(InvalidInput, match="levels"):
        filters.check(deep)


@pytest.mark.parametrize(
    "fields",
    [
        {f"f{i}": 1 for i in range(33)},
        {"a b": 1},
        {"a": "x" * 4097},
        {"a": float("inf")},
        {"a": 2**63},
        {"a": "nul\0"},
        {"a": "\ud800"},
    ],
)
def test_fields_that_cannot_be_stored_are_refused(fields: dict[str, FieldValue]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_fields(fields)
    assert caught.value.reason == "BAD_FIELD"


def test_texts_of_an_expression_are_escaped() -> None:
    text = 'a"b\\c\nd'
    assert filters.compile_milvus(Ids((text,))) == '(id in ["a\\"b\\\\c\\nd"])'
    assert filters.compile_milvus(In("f", (text,))) == '(exists fields["f"] and (fields["f"] == "a\\"b\\\\c\\nd"))'
    assert filters.compile_milvus(Not(And((Exists("f"), Range("f", gte=1.0, lt=2.0))))) == (
        '(not ((exists fields["f"]) and (exists fields["f"] and (fields["f"] >= 1.0 and fields["f"] < 2.0))))'
    )
