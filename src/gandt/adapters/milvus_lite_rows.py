# SPDX-License-Identifier: GPL-3.0-or-later
"""Items as a request to Milvus Lite, by columns.

pymilvus takes items as one dict a row and makes its columns in Python, a call for each number's row and field: a
quarter of what an upsert into Lite costs. Here the vectors go over as the bytes they are.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.adapters import milvus_client as milvus
from gandt.domain.search_records import ItemSet

_ANY_SCHEMA: dict[str, Any] = {"fields": [{}]}  # the request is made; without one pymilvus asks for it each time


def upsert(client: Any, name: str, items: ItemSet, generation: int) -> None:
    """Inserts or replaces items in calls of at most 1000 rows and 32 MiB."""
    connection = client._get_connection()
    for start, stop in milvus.calls(items):
        request = upsert_request(name, items.slice(start, stop), generation)
        connection.upsert(name, [], upsert_param=request, schema=_ANY_SCHEMA)


def upsert_request(name: str, items: ItemSet, generation: int) -> Any:
    """The UpsertRequest of pymilvus for some items in our schema."""
    from pymilvus import DataType
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2

    rows = len(items)
    fields = [json.dumps(dict(row)).encode() for row in items.fields] if items.fields else [b"{}"] * rows
    request = milvus_pb2.UpsertRequest(collection_name=name, num_rows=rows)
    generations = schema_pb2.LongArray(data=[generation] * rows)
    columns = [
        (milvus.ID, DataType.VARCHAR, schema_pb2.ScalarField(string_data=schema_pb2.StringArray(data=items.ids))),
        (milvus.GENERATION, DataType.INT64, schema_pb2.ScalarField(long_data=generations)),
        (milvus.FIELDS, DataType.JSON, schema_pb2.ScalarField(json_data=schema_pb2.JSONArray(data=fields))),
    ]
    for column, kind, values in columns:
        request.fields_data.add(type=kind, field_name=column, scalars=values)
    vectors = request.fields_data.add(type=DataType.FLOAT_VECTOR, field_name=milvus.VECTOR).vectors
    vectors.dim = items.vectors.dim
    vectors.float_vector.MergeFromString(_float_array(items.vectors.matrix))  # in place: it is copied once
    return request


def _float_array(matrix: NDArray[np.floating]) -> bytes:
    """The protobuf message `FloatArray { repeated float data = 1; }`: field 1 as bytes, their length, the numbers."""
    numbers = np.ascontiguousarray(matrix, "<f4").tobytes()
    length, head = len(numbers), bytearray(b"\x0a")
    while length > 127:
        head.append(length & 127 | 128)
        length >>= 7
    head.append(length)
    return bytes(head) + numbers
