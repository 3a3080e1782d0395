# SPDX-License-Identifier: GPL-3.0-or-later
"""Shared messages: what goes onto the wire comes back equal, and malformed messages are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import GandtError, InvalidInput, NotFound, Overloaded
from gandt.domain.fields import FieldValue
from gandt.domain.filters import And, Exists, Filter, Ids, In, Not, Or, Range
from gandt.domain.images import ImageRef
from gandt.domain.progress import Progress
from gandt.domain.vectors import VectorSet
from gandt.wire import types

VALUES: st.SearchStrategy[FieldValue] = st.one_of(
    st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans()
)
NAMES = st.sampled_from(["a", "_b", "C9"])
FINITE = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))
LEAVES: st.SearchStrategy[Filter] = st.one_of(
    st.builds(In, NAMES, st.lists(st.integers(-9, 9), min_size=1, max_size=3).map(tuple)),
    st.builds(In, NAMES, st.lists(st.booleans(), min_size=1, max_size=2).map(tuple)),
    st.builds(Range, NAMES, FINITE, FINITE, FINITE, FINITE),
    st.builds(Exists, NAMES),
    st.builds(
        Ids,
        st.lists(st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=4), max_size=3).map(
            tuple
        ),
    ),
)
TREES: st.SearchStrategy[Filter] = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(And, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=6,
)


@given(TREES)
def test_filters_travel(condition: Filter) -> None:
    message = types.filter_message(condition)
    assert message is not None
    assert types.filter_of(type(message).FromString(message.SerializeToString())) == condition


def test_no_filter_is_no_filter() -> None:
    assert types.filter_message(None) is None
    assert types.filter_of(None) is None
    assert types.filter_of(types.filter_message(None)) is None


@given(VALUES)
def test_field_values_travel_with_their_kind(value: FieldValue) -> None:
    back = types.field_value(types.field_value_message(value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_vectors_travel_bit_for_bit(dtype: type[np.floating]) -> None:
    matrix = np.random.default_rng(0).normal(size=(5, 3)).astype(dtype)
    given = VectorSet(["a", "b", "c", "d", "e"], matrix, "m")
    back = types.vector_set(types.vector_block(given), model_id="m", dim=3)
    assert back.ids == given.ids
    assert back.matrix.dtype == dtype
    assert np.array_equal(back.matrix, matrix)
    half = types.vector_set(types.vector_block(given, np.dtype(np.float16)))
    assert half.matrix.dtype == np.float16


def test_a_big_endian_or_strided_matrix_becomes_little_endian_rows() -> None:
    matrix = np.arange(12, dtype=">f4").reshape(4, 3)[::2]
    back = types.vector_set(types.vector_block(VectorSet(["a", "b"], matrix)))
    assert back.matrix.tolist() == matrix.tolist()


def test_ids_alone_and_queries_without_ids() -> None:
    bare = types.vector_set(types.vector_block(VectorSet(["a", "b"], np.zeros((2, 0), np.float32))))
    assert (list(bare.ids), bare.matrix.shape) == (["a", "b"], (2, 0))
    queries = types.vector_set(types.query_block(np.ones((2, 3))), named=False)
    assert queries.matrix.shape == (2, 3)
    assert types.vector_set(types.query_block(np.ones((0, 3))), named=False).matrix.shape == (0, 3)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"dim": 0}, "BAD_DIM"),
        ({"dim": 32_769}, "BAD_DIM"),
        ({"dim": 4}, "WRONG_DIM"),
        ({"data": b"\0" * 11}, "WRONG_LENGTH"),
        ({"data": b"\0" * 36}, "WRONG_LENGTH"),
        ({"dtype": 7}, "BAD_DTYPE"),
    ],
)
def test_malformed_blocks_are_refused(change: dict[str, int | bytes], reason: str) -> None:
    block = types.vector_block(VectorSet(["a", "b"], np.ones((2, 3), np.float32)))
    for name, value in change.items():
        setattr(block, name, value)
    with pytest.raises(InvalidInput) as caught:
        types.vector_set(block, dim=3)
    assert caught.value.reason == reason


@given(st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=50), st.integers(1, 64))
def test_chunks_stay_within_the_limit_and_lose_nothing(ids: list[str], dim: int) -> None:
    given = VectorSet(ids, np.ones((len(ids), dim), np.float32))
    chunks = list(types.chunked(given, max_bytes=1000))
    assert [image_id for chunk in chunks for image_id in chunk.ids] == ids
    assert all(len(chunk) == 1 or types.vector_block(chunk).ByteSize() <= 1000 for chunk in chunks)


def test_a_set_of_a_mebibyte_is_cut() -> None:
    given = VectorSet([f"{n:064d}" for n in range(1000)], np.ones((1000, 2048), np.float32))
    chunks = list(types.chunked(given))
    assert len(chunks) == 8
    assert max(types.vector_block(chunk).ByteSize() for chunk in chunks) <= types.MAX_BLOCK_BYTES


def test_records_travel() -> None:
    image = LabeledImage("i", ("a", "b"), 0.5, "main", 3, 0.25)
    assert types.labeled_image(types.labeled_image_message(image)) == image
    seed = types.labeled_image_message(LabeledImage("i", ("a",)))
    seed.probability = 0
    assert types.labeled_image(seed).probability == 1
    assert types.progress(types.progress_message(Progress("fitting", 3, 9))) == Progress("fitting", 3, 9)
    assert types.image_ref(types.image_ref_message(ImageRef("i", "s3://b/k"))) == ImageRef("i", "s3://b/k")
    with pytest.raises(InvalidInput):
        types.labeled_image(types.labeled_image_message(LabeledImage("i", ())))
    with pytest.raises(InvalidInput):
        types.labeled_image(types.labeled_image_message(LabeledImage("i", ("a",), 1.5)))


@pytest.mark.parametrize(
    "error", [InvalidInput("no", reason="BAD_VECTOR"), NotFound("gone"), Overloaded("later"), GandtError("bug")]
)
def test_the_error_of_an_item_travels(error: GandtError) -> None:
    back = types.item_error(types.item_error_message(error))
    assert (type(back), back.reason, str(back)) == (type(error), error.reason, str(error))
