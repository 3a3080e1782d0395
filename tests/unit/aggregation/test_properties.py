# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold for any answers: order of rows, names of labels, repeated rows and chunk borders do not matter."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.aggregation.compat import CompatAnswer, filter_unreliable
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.errors import WrongState
from tests.unit.aggregation.builders import Row, items, run, table

METHODS = [
    "majority",
    "agreement",
    "wawa",
    "one-coin",
    "dawid-skene",
    "hierarchical",
    "blend",
    "mace",
    "subtypes",
    "committee",
]

rows_of = st.lists(
    st.tuples(
        st.sampled_from([f"i{n}" for n in range(6)]),
        st.sampled_from([f"w{n}" for n in range(5)]),
        st.sampled_from(["a", "b", "c", "-"]),
    ),
    max_size=40,
    unique_by=lambda row: row[:2],
)
sets_of = st.lists(
    st.tuples(
        st.sampled_from([f"i{n}" for n in range(5)]),
        st.sampled_from([f"w{n}" for n in range(4)]),
        st.sampled_from(["a", "b", "a|b", "b|c", "a|b|c", "", "-"]),
    ),
    max_size=20,
    unique_by=lambda row: row[:2],
)
quick = settings(max_examples=12, deadline=None, derandomize=True)


def picture(rows: list[Row], **spec: Any) -> dict[str, tuple[object, ...]]:
    result = run(rows, with_posteriors=True, **spec)
    return {i.image_id: (i.labels, i.status, i.answers, i.agreeing, i.confidence, i.posterior) for i in result.items()}


@pytest.mark.parametrize("method", METHODS)
@quick
@given(rows=rows_of, seed=st.integers(0, 10))
def test_order_of_rows_does_not_matter(method: str, rows: list[Row], seed: int) -> None:
    shuffled = random.Random(seed).sample(rows, len(rows))
    # Equal to the last bit: names, not rows, give the order of sums.
    assert picture(rows, method=method, classes=("a", "b", "c")) == picture(
        shuffled, method=method, classes=("a", "b", "c")
    )


@pytest.mark.parametrize("method", METHODS)
@quick
@given(rows=rows_of)
def test_names_of_labels_do_not_matter(method: str, rows: list[Row]) -> None:
    renamed = {"a": "z", "b": "y", "c": "x", "-": "-"}
    one = run(rows, method=method, classes=("a", "b", "c"), with_posteriors=True)
    two = run(
        [(i, w, renamed[label]) for i, w, label in rows], method=method, classes=("x", "y", "z"), with_posteriors=True
    )
    for image, item in items(one).items():
        other = items(two)[image]
        assert other.posterior[::-1] == pytest.approx(item.posterior, abs=1e-6)
        assert sorted(renamed[label] for label in item.labels) == sorted(other.labels)


@pytest.mark.parametrize("method", METHODS)
@quick
@given(rows=rows_of, seed=st.integers(0, 10))
def test_repeated_rows_do_not_matter(method: str, rows: list[Row], seed: int) -> None:
    again = random.Random(seed).sample(rows, len(rows) // 2)
    result = run([*rows, *again], method=method)
    assert picture([*rows, *again], method=method) == picture(rows, method=method)
    assert result.summary.repeated_answers == sum(label != "-" for _, _, label in again)


@pytest.mark.parametrize("method", [*METHODS, "two-coin"])
@quick
@given(rows=sets_of, seed=st.integers(0, 10))
def test_order_names_and_repeats_do_not_matter_with_several_labels(method: str, rows: list[Row], seed: int) -> None:
    spec = {"method": method, "multi_label": True}
    plain = picture(rows, classes=("a", "b", "c"), **spec)
    mixed = random.Random(seed).sample([*rows, *rows[: len(rows) // 2]], len(rows) + len(rows) // 2)
    assert picture(mixed, classes=("a", "b", "c"), **spec) == plain
    renamed = [(i, w, cell.translate(str.maketrans("abc", "zyx"))) for i, w, cell in rows]
    for image, other in picture(renamed, classes=("x", "y", "z"), **spec).items():
        assert other[1:4] == plain[image][1:4]
        assert np.array(other[5])[::-1] == pytest.approx(np.array(plain[image][5]), abs=1e-6)


@quick
@given(rows=rows_of, size=st.integers(1, 200))
def test_borders_of_chunks_do_not_matter(rows: list[Row], size: int) -> None:
    whole, parts = table(rows), table(rows, chunk_bytes=size)
    assert whole.images == parts.images
    assert whole.labels == parts.labels
    for name in ("image", "worker", "job", "state", "previous", "label_ptr", "label"):
        assert np.array_equal(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("method", [*METHODS, "two-coin", "auto"])
@quick
@given(rows=sets_of)
def test_every_image_goes_out_with_several_labels(method: str, rows: list[Row]) -> None:
    result = run(rows, method=method, multi_label=True, with_posteriors=True)
    assert {item.image_id for item in result.items()} == {row[0] for row in rows}
    for item in result.items():
        assert 0 <= item.confidence <= 1
        assert np.isfinite(item.posterior).all()
        assert item.agreeing <= item.answers


@pytest.mark.parametrize("method", [*METHODS, "auto"])
@quick
@given(rows=rows_of, known=st.sets(st.sampled_from([f"i{n}" for n in range(6)])))
def test_posteriors_sum_to_one_with_any_gold(method: str, rows: list[Row], known: set[str]) -> None:
    result = run(rows, {image: ["a"] for image in known}, method=method, with_posteriors=True)
    for item in result.items():
        assert sum(item.posterior) == pytest.approx(1, abs=1e-9) or not result.summary.classes
        assert item.gold == (item.image_id in known)
    for report in result.reports:
        assert report.reliability is None or 0 <= report.low <= report.reliability <= report.high <= 1


@quick
@given(rows=st.lists(st.tuples(*[st.sampled_from("abc")] * 3, st.sets(st.sampled_from("xyz"))), max_size=25))
def test_compat_certain_images_have_agreeing_rows(rows: list[tuple[str, str, str, set[str]]]) -> None:
    answers = [CompatAnswer(job, image, worker, tuple(sorted(labels))) for job, image, worker, labels in rows]
    try:
        result = filter_unreliable(answers)
    except WrongState:
        return
    for image in (*result.unfiltered, *result.filtered):
        assert image.certain == (image.top >= 2 and image.top > image.rows / 2)
    assert {image.image for image in result.filtered} <= {image.image for image in result.unfiltered}


def test_a_spec_checks_itself() -> None:
    from gandt.domain.errors import InvalidInput

    for bad in (
        {"min_proportion": 1.5},
        {"reliability_threshold": -0.1},
        {"min_answers": 0},
        {"min_worker_answers": 0},
        {"classes": ("a", "a")},
    ):
        with pytest.raises(InvalidInput):
            AggregateSpec(**bad)
