# SPDX-License-Identifier: GPL-3.0-or-later
"""Our request to Milvus Lite is the one that pymilvus makes from rows."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.adapters import milvus_client as milvus
from gandt.adapters.milvus_lite_rows import upsert_request
from gandt.domain.search_records import Fields, ItemSet
from gandt.domain.vectors import VectorSet

VALUES = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False))
FIELDS = st.dictionaries(st.text("abcä", min_size=1, max_size=4), VALUES | st.text(max_size=20), max_size=3)


@settings(deadline=None, max_examples=50)
@given(rows=st.lists(FIELDS, min_size=1, max_size=5), dim=st.sampled_from([1, 2, 31, 32, 4096]), half=st.booleans())
def test_the_request_is_that_of_pymilvus(rows: list[Fields], dim: int, half: bool) -> None:
    single = np.random.default_rng(len(rows)).normal(size=(len(rows), dim)).astype(np.float32)
    matrix = single.astype(np.float16) if half else single
    items = ItemSet(VectorSet([f'ä"\\{row}' for row in range(len(rows))], matrix, "m"), rows)
    assert columns_of(upsert_request("c", items, 7)) == columns_of(by_pymilvus(items, 7))


@pytest.mark.parametrize(("rows", "dim", "sizes"), [(0, 2, []), (2500, 2, [1000, 1000, 500]), (300, 32768, [255, 45])])
def test_a_call_is_bounded_in_rows_and_bytes(rows: int, dim: int, sizes: list[int]) -> None:
    matrix = np.zeros((rows, dim), np.float32)
    items = ItemSet(VectorSet([str(row) for row in range(rows)], matrix))
    assert [stop - start for start, stop in milvus.calls(items)] == sizes


def by_pymilvus(items: ItemSet, generation: int) -> Any:
    """What `MilvusClient.upsert` would send."""
    milvus.client_class()
    from pymilvus import CollectionSchema, DataType, FieldSchema
    from pymilvus.client.prepare import Prepare

    make: Any = CollectionSchema
    field: Any = FieldSchema
    schema = make(
        [
            field(milvus.ID, DataType.VARCHAR, is_primary=True, max_length=512),
            field(milvus.GENERATION, DataType.INT64),
            field(milvus.FIELDS, DataType.JSON),
            field(milvus.VECTOR, DataType.FLOAT_VECTOR, dim=items.vectors.dim),
        ]
    ).to_dict()
    matrix = np.asarray(items.vectors.matrix, np.float32)
    rows = [
        {
            milvus.ID: image_id,
            milvus.GENERATION: generation,
            milvus.FIELDS: dict(items.fields[row]),
            milvus.VECTOR: matrix[row],
        }
        for row, image_id in enumerate(items.ids)
    ]
    return Prepare.row_upsert_param("c", rows, "", schema["fields"], [])


def columns_of(request: Any) -> tuple[Any, ...]:
    """What a request says, JSON read."""
    columns = []
    for field in request.fields_data:
        scalars = field.scalars
        values: Any = {
            milvus.ID: list(scalars.string_data.data),
            milvus.GENERATION: list(scalars.long_data.data),
            milvus.FIELDS: [json.loads(text) for text in scalars.json_data.data],
            milvus.VECTOR: (field.vectors.dim, list(field.vectors.float_vector.data)),
        }[field.field_name]
        columns.append((field.field_name, field.type, values))
    return request.collection_name, request.num_rows, sorted(columns)
