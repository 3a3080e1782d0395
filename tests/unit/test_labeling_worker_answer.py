# SPDX-License-Identifier: GPL-3.0-or-later
"""One worker's form: every row of the reference's table of odd answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.domain.datasets import AnswerState
from gandt.domain.labeling.worker_answer import Page, TileAnswer, page_of, read_form

TILES = [
    {
        "task": "t-1",
        "id": "img-a",
        "event_names": ["Birthday", "Kid's & Wedding"],
        "other_category_label": "None of the above",
        "source-ref": "s3://b/p/a.jpg",
        "index": 0,
    },
    {"source-ref": "s3://b/q/a.jpg", "index": 2},
]
PAGE = page_of(TILES)


def read(form: Any, page: Page = PAGE) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    answers, broken = read_form(json.dumps(form) if not isinstance(form, str) else form, page)
    return {answer.image_id: answer.labels for answer in answers}, [part.rule for part in broken]


def test_a_good_form() -> None:
    assert read({"labels-0": '["Birthday"]', "labels-2": '["None of the above"]', "meta": "{}"}) == (
        {"img-a": ("Birthday",), "s3://b/q/a.jpg": ("None of the above",)},
        [],
    )
    assert PAGE.task == "t-1"


def test_states_and_times() -> None:
    form = {
        "labels-0": '["Birthday"]',
        "state-0": "answered",
        "ms-0": "1500",
        "labels-2": "[]",
        "state-2": "broken",
        "ms-2": "nan",
    }
    answers, broken = read_form(form, PAGE)
    assert answers == [
        TileAnswer("img-a", ("Birthday",), AnswerState.ANSWERED, 1.5),
        TileAnswer("s3://b/q/a.jpg", (), AnswerState.BROKEN, None),
    ]
    assert broken == []
    for state, labels, expected in [
        ("answered", "[]", "blank"),
        ("blank", '["Birthday"]', "answered"),
        ("unsure", "[]", "unsure"),
        ("nonsense", "[]", "blank"),
        (3, '["Birthday"]', "answered"),
    ]:
        (answer,), _ = read_form({"labels-0": labels, "state-0": state}, PAGE)
        assert answer.state == expected


@pytest.mark.parametrize("bad", ["", "{", "null", "3", '"text"', "[1, 2]", "[" * 100_000, "[]"])
def test_a_form_that_is_none(bad: str) -> None:
    answers, rules = read(bad)
    assert answers == {}
    assert rules[0] in {"not_json", "not_an_object"}


@pytest.mark.parametrize("wrap", [lambda form: {"annotatedResult": form}, lambda form: [form]])
def test_wrappers_are_taken_off(wrap: Any) -> None:
    assert read(wrap({"labels-0": '["Birthday"]'})) == ({"img-a": ("Birthday",)}, [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('["Birthday"]', ("Birthday",)),
        (["Birthday"], ("Birthday",)),
        ({"Birthday": True, "Kid's & Wedding": False}, ("Birthday",)),
        ('{"Birthday": true}', ("Birthday",)),
        ({"label": "Birthday"}, ("Birthday",)),
        ({"labels": ["Birthday", "Kid's & Wedding"]}, ("Birthday", "Kid's & Wedding")),
        ('["Kid&#39;s &amp; Wedding"]', ("Kid's & Wedding",)),
        ('[" Kid\'s  &\\n Wedding "]', ("Kid's & Wedding",)),
        ("[]", ()),
        ('["Birthday", "Birthday"]', ("Birthday", "Birthday")),
    ],
)
def test_shapes_of_a_value(value: Any, expected: tuple[str, ...]) -> None:
    assert read({"labels-0": value}) == ({"img-a": expected}, [])


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("labels-9", '["Birthday"]', "unknown_index"),
        ("labels-0", "hi", "labels_not_json"),
        ("labels-0", "3", "labels_not_a_list"),
        ("labels-0", '"Birthday"', "labels_not_a_list"),
        ("labels-0", "[1]", "labels_not_a_list"),
        ("labels-0", None, "labels_not_a_list"),
        ("labels-0", {"Birthday": "yes"}, "labels_not_a_list"),
        ("labels-0", '["Funeral"]', "unknown_label"),
        ("labels-0", '["birthday"]', "unknown_label"),
        ("labels-0", '["\\ud800"]', "labels_not_a_list"),
    ],
)
def test_a_broken_tile_costs_no_other(field: str, value: Any, rule: str) -> None:
    assert read({field: value, "labels-2": '["Birthday"]', "comment-0": "hi", "labels-x": "?"}) == (
        {"s3://b/q/a.jpg": ("Birthday",)},
        [rule],
    )


def test_a_form_without_labels_and_the_classifier_of_a_single_picture() -> None:
    assert read({"comment": "hi"}) == ({}, ["no_labels"])
    single = page_of([{"source-ref": "s3://b/1.jpg", "index": 0}])
    assert read({"kind": {"label": "Cat"}}, single) == ({"s3://b/1.jpg": ("Cat",)}, [])
    assert read({"kind": {"label": "a|b"}}, single) == ({}, ["unknown_label"])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["labels-0", "labels-2", "state-0", "x"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_no_form_raises_and_every_tile_comes_out(form: Any) -> None:
    answers, broken = read_form(form, PAGE)
    inner = form if isinstance(form, dict) else {}
    fields = [name for name in inner if name.startswith("labels-")]
    assert answers or broken
    assert len(answers) + len(broken) >= len(fields)
    assert all(len(part.excerpt.encode()) <= 500 for part in broken)
