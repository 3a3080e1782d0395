# SPDX-License-Identifier: GPL-3.0-or-later
"""A batch of answers after a fit: the state travels as bytes, goes on, and comes close to a full fit."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.aggregation.aggregate import Aggregation, Beside, aggregate
from gandt.domain.aggregation.answer_table import Limits, concatenate
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.state import MAGIC, State, check_state, pack_state, unpack_state
from gandt.domain.errors import InvalidInput
from tests.unit.aggregation.builders import Row, crowd, table

SPEC = AggregateSpec(method="blend", classes=("c0", "c1", "c2"))


def shuffled(images: int, seed: int) -> list[Row]:
    rows, _ = crowd(images, 3, 5, seed)
    return [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]


def packed(result: Aggregation, answers: Any, spec: AggregateSpec = SPEC) -> bytes:
    """The state of a result as bytes."""
    state = State(spec.method, spec.classes, spec.multi_label, answers, {}, frozenset(), {}, result.warm)
    return pack_state(state)


def in_batches(rows: Sequence[Row], cuts: Sequence[int], spec: AggregateSpec = SPEC) -> Aggregation:
    """All rows, those of each batch after the state of those before."""
    answers = table(rows[: cuts[0]])
    result = aggregate(answers, spec, {}, lambda: None)
    for start, stop in zip(cuts, [*cuts[1:], len(rows)], strict=True):
        state = unpack_state(packed(result, answers, spec))
        answers = concatenate(state.table, table(rows[start:stop]))
        result = aggregate(answers, spec, {}, lambda: None, Beside(warm=state.warm))
    return result


def far(found: Aggregation, full: Aggregation) -> tuple[int, int]:
    """Images more than 1e-2 apart, and those with another label whose top two are not within 0.02."""
    apart = np.abs(found.posterior - full.posterior).max(axis=1) > 1e-2
    top = np.sort(full.posterior, axis=1)
    other = (found.posterior.argmax(axis=1) != full.posterior.argmax(axis=1)) & (top[:, -1] - top[:, -2] > 0.02)
    return int(apart.sum()), int(other.sum())


@pytest.mark.parametrize("method", ["blend", "one-coin", "hierarchical"])
def test_batches_come_close_to_a_full_fit(method: str) -> None:
    spec, images, apart, other = replace(SPEC, method=method), 0, 0, 0
    for seed in range(3):
        rows = shuffled(800, seed)
        found = in_batches(rows, [3880, 3920, 3960], spec)
        assert "from the state on by 120 votes" in found.summary.explanation
        full = aggregate(table(rows), spec, {}, lambda: None)
        one, two = far(found, full)
        images, apart, other = images + 800, apart + one, other + two
    assert apart <= 0.001 * images
    assert not other


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), cut=st.integers(1, 999), method=st.sampled_from(["auto", "blend", "dawid-skene"]))
def test_whatever_the_split_labels_stay_those_of_a_full_fit(seed: int, cut: int, method: str) -> None:
    rows, spec = shuffled(200, seed), replace(SPEC, method=method)
    found, full = in_batches(rows, [cut], spec), aggregate(table(rows), spec, {}, lambda: None)
    apart, other = far(found, full)
    assert apart <= 2  # of 200: one worker of few answers has a handful of images
    assert not other


def test_a_large_batch_is_fitted_from_the_start() -> None:
    rows = shuffled(200, 1)
    found, full = in_batches(rows, [900]), aggregate(table(rows), SPEC, {}, lambda: None)
    assert np.array_equal(found.posterior, full.posterior)
    assert "from the state" not in found.summary.explanation


def test_several_labels_go_on_too() -> None:
    spec, apart = replace(SPEC, method="auto", multi_label=True), 0
    for seed in range(4):
        rows = shuffled(500, seed)
        found, full = in_batches(rows, [2450], spec), aggregate(table(rows), spec, {}, lambda: None)
        assert "from the state" in found.summary.explanation
        apart += far(found, full)[0]
    assert apart <= 2


def test_everything_comes_back_from_the_bytes() -> None:
    rows, _ = crowd(30, 3, 3, 2)
    answers = replace(table(rows, previous=[("old", "w00", "c0")]), seconds=np.arange(len(rows) + 1, dtype=np.float32))
    result = aggregate(answers, SPEC, {}, lambda: None)
    state = State("blend", SPEC.classes, False, answers, {"i0": ("c1",)}, frozenset({"i0"}), {"i1": "c2"}, result.warm)
    again = unpack_state(pack_state(state))
    for name in ("method", "named_classes", "multi_label", "gold", "drawn", "model"):
        assert getattr(again, name) == getattr(state, name)
    for name in ("images", "workers", "labels", "jobs"):
        assert list(getattr(again.table, name)) == list(getattr(answers, name))
    for name in ("image", "worker", "job", "state", "previous", "label_ptr", "label", "seconds"):
        assert np.array_equal(getattr(again.table, name), getattr(answers, name)), name
    assert again.warm.fitted == state.warm.fitted
    assert np.allclose(again.warm.parts[1], state.warm.parts[1], atol=1e-6)
    assert pack_state(again) == pack_state(state)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"GTAS\x02\x00broken", b"GTAS\x01\x00", b"GTAS\x63\x00"])
def test_what_is_no_state_of_this_version_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        unpack_state(data)
    assert caught.value.reason in ("BAD_STATE", "STATE_VERSION")
    assert "without a state" in caught.value.fix


def good_state() -> bytes:
    answers = table(crowd(12, 3, 3, 2)[0])
    return packed(aggregate(answers, SPEC, {}, lambda: None), answers)


GOOD = good_state()


@settings(max_examples=60, deadline=None)
@given(at=st.integers(6, len(GOOD) - 1), byte=st.integers(0, 255), cut=st.booleans())
def test_damage_is_one_clear_error(at: int, byte: int, cut: bool) -> None:
    data = GOOD[:at] if cut else GOOD[:at] + bytes([byte]) + GOOD[at + 1 :]
    if data == GOOD:
        return
    with pytest.raises(InvalidInput) as caught:
        unpack_state(data)
    assert caught.value.reason == "BAD_STATE"


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, len(zlib.decompress(GOOD[6:])) - 1), byte=st.integers(0, 255))
def test_a_forged_state_is_refused_or_harmless(at: int, byte: int) -> None:
    body = bytearray(zlib.decompress(GOOD[6:]))
    body[at] = byte
    try:
        state = unpack_state(MAGIC + b"\x02\x00" + zlib.compress(bytes(body)))
        aggregate(state.table, SPEC, state.gold, lambda: None, Beside(state.drawn, state.model, {}, state.warm))
    except InvalidInput:
        pass


def test_limits_hold_for_a_state_too() -> None:
    with pytest.raises(InvalidInput) as caught:
        unpack_state(GOOD, Limits(answers=5))
    assert caught.value.reason == "TOO_MUCH_DATA"


@pytest.mark.parametrize(
    "asked", [{"method": "one-coin"}, {"classes": ("c0", "c1")}, {"classes": ()}, {"multi_label": True}]
)
def test_a_state_does_not_serve_another_question(asked: dict[str, Any]) -> None:
    state = unpack_state(GOOD)
    check_state(state, SPEC)
    with pytest.raises(InvalidInput, match="the state was made with") as caught:
        check_state(state, replace(SPEC, **asked))
    assert caught.value.reason == "STATE_MISMATCH"
