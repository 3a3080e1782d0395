# SPDX-License-Identifier: GPL-3.0-or-later
"""What the adapters on pymilvus share: a quiet client, our schema, rows in and out, and paging."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from gandt.adapters import milvus_index
from gandt.adapters.milvus_errors import is_too_large
from gandt.adapters.milvus_errors import translated as translated
from gandt.domain.errors import CorruptData
from gandt.domain.fields import MAX_FIELD_BYTES
from gandt.domain.filters import Filter, Ids, compile_milvus, quoted
from gandt.domain.search_records import Fields, ItemSet
from gandt.domain.upserts import MAX_FIELDS_BYTES
from gandt.domain.vectors import MAX_ID_BYTES, VectorSet

ID, GENERATION, FIELDS, VECTOR, PARTITION = "id", "gen", "fields", "vector", "part"
MODEL_PROPERTY = "gandt_model_id"  # of a collection; Lite drops descriptions and keeps properties
GENERATION_PROPERTY = "gandt_generation"
PARTITION_PROPERTY = "gandt_partition_field"
WRITE_ROWS = 1000
MESSAGE_BYTES = 32 << 20  # a cluster takes 64 MB
PAGE_ROWS = 16_384
IDS_A_CALL = 1000
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Described:
    """A collection of ours in Milvus, by its own name.

    Attributes:
        generation: the last one that its properties note.
        partition_field: item field whose text chooses the partition; "" for none.
    """

    name: str
    dim: int
    model_id: str
    generation: int
    partition_field: str = ""


def client_class() -> Any:
    """MilvusClient, imported without its side effects.

    Importing pymilvus reads a `.env` file above its own folder and sends warnings to stderr; Lite logs
    the traceback of every refused call. What matters of them is raised, and raised errors are ours.
    """
    os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
    from pymilvus import MilvusClient

    for name in ("pymilvus", "pymilvus.milvus_client", "milvus_lite"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
    return MilvusClient


def create_collection(
    client: Any,
    name: str,
    dim: int,
    model_id: str,
    index_type: str,
    index_params: Mapping[str, milvus_index.Parameter],
    partition_field: str = "",
    **options: Any,
) -> None:
    """A collection with our schema, an index on cosine similarity, and our properties.

    Args:
        partition_field: item field whose text chooses the partition; "" for none.
        options: more arguments of pymilvus, such as consistency_level and num_partitions.
    """
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
    schema.add_field(GENERATION, DataType.INT64)
    schema.add_field(FIELDS, DataType.JSON)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    properties = {MODEL_PROPERTY: model_id, GENERATION_PROPERTY: "0"}
    if partition_field:
        schema.add_field(PARTITION, DataType.VARCHAR, is_partition_key=True, max_length=MAX_FIELD_BYTES)
        properties[PARTITION_PROPERTY] = partition_field
    index = client.prepare_index_params()
    milvus_index.add_index(index, VECTOR, milvus_index.IndexSpec(index_type, index_params))
    client.create_collection(name, schema=schema, index_params=index, properties=properties, **options)


def describe(client: Any, name: str) -> Described | None:
    """A collection by its name or an alias, or None when it is not one of ours."""
    described = client.describe_collection(name)
    properties = described["properties"]
    if MODEL_PROPERTY not in properties:
        return None
    return Described(
        described["collection_name"],
        int(next(field["params"]["dim"] for field in described["fields"] if field["name"] == VECTOR)),
        properties[MODEL_PROPERTY],
        int(properties.get(GENERATION_PROPERTY, 0)),
        properties.get(PARTITION_PROPERTY, ""),
    )


def note_generation(client: Any, name: str, generation: int) -> None:
    """Writes a generation into the collection's properties."""
    client.alter_collection_properties(name, properties={GENERATION_PROPERTY: str(generation)})


def count(client: Any, name: str, expression: str = "", **options: Any) -> int:
    """Items that match, counted by a query; the collection's statistics count deleted rows too."""
    return int(client.query(name, filter=expression, output_fields=["count(*)"], **options)[0]["count(*)"])


def upsert(client: Any, name: str, items: ItemSet, generation: int, partition_field: str = "") -> None:
    """Inserts or replaces items in calls of at most 1000 rows and 32 MiB. Never `insert`: a cluster would double."""
    matrix = np.asarray(items.vectors.matrix, np.float32)
    for start, stop in calls(items):
        rows = []
        for i in range(start, stop):
            fields = dict(items.fields[i]) if items.fields else {}
            row = {ID: items.ids[i], GENERATION: generation, FIELDS: fields, VECTOR: matrix[i]}
            if partition_field:
                value = fields.get(partition_field)
                row[PARTITION] = value if isinstance(value, str) else ""
            rows.append(row)
        for _ in in_parts(lambda part: client.upsert(name, part), rows):
            pass


def calls(items: ItemSet) -> Iterator[tuple[int, int]]:
    """[start, stop) of calls of at most WRITE_ROWS rows and MESSAGE_BYTES."""
    costs = [4 * items.vectors.dim + _most_bytes(row) for row in items.fields or [{}]]
    start = size = 0
    for row in range(len(items)):
        cost = costs[row if len(costs) > 1 else 0]
        if row > start and (row - start >= WRITE_ROWS or size + cost > MESSAGE_BYTES):
            yield start, row
            start, size = row, 0
        size += cost
    if len(items):
        yield start, len(items)


def in_parts(call: Callable[[Sequence[T]], R], rows: Sequence[T]) -> Iterator[R]:
    """What a call answers to all rows; where the server finds them too large, what it answers to each half."""
    try:
        answer = call(rows)
    except Exception as error:
        if len(rows) < 2 or not is_too_large(error):
            raise
    else:
        yield answer
        return
    half = len(rows) // 2
    yield from in_parts(call, rows[:half])
    yield from in_parts(call, rows[half:])


def delete(client: Any, name: str, ids: Sequence[str]) -> None:
    """Deletes by an escaped filter; pymilvus quotes `ids=` as Python does, which breaks on quotes and backslashes."""
    for start in range(0, len(ids), IDS_A_CALL):
        client.delete(name, filter=compile_milvus(Ids(tuple(ids[start : start + IDS_A_CALL]))))


def pages(
    client: Any,
    name: str,
    fields: Sequence[str],
    rows: int,
    condition: Filter | None = None,
    after_id: str = "",
    moment: dict[str, Any] | None = None,
    **options: Any,
) -> Iterator[list[dict[str, Any]]]:
    """Rows in id order. pymilvus' own iterator does not escape the id at which a page ends, so this one does.

    A cluster pins every page to the moment of the first one; Lite shows what is written meanwhile. Where a server
    finds a page too large, this one and the next are half as large. A cluster may give a page that is short although
    more rows follow (it stops where its parts stop being in one order), so only an empty page is the last one.

    Args:
        moment: filled with what pins the pages, and read: give the same one to pages that shall show the same moment.

    Raises:
        CorruptData: a page is not in order, so that rows could be lost.
    """
    more = f" and {compile_milvus(condition)}" if condition is not None else ""
    moment = {} if moment is None else moment
    while True:
        try:
            page = client.query(
                name,
                filter=f"{ID} > {quoted(after_id)}{more}",
                limit=rows,
                output_fields=list(fields),
                iterator="True",
                reduce_stop_for_best="True",
                **{**options, **moment},
            )
        except Exception as error:
            if rows < 2 or not is_too_large(error):
                raise
            rows //= 2
            continue
        at = int((getattr(page, "extra", None) or {}).get("iterator_session_ts", 0) or 0)
        if at > 0:
            moment.setdefault("guarantee_timestamp", at)
        if not page:
            return
        ids = [after_id, *(row[ID] for row in page)]
        if any(earlier >= later for earlier, later in itertools.pairwise(ids)):
            raise CorruptData(
                f"Milvus gave a page of collection {name} out of order", kind="collection", id=name, reason="UNORDERED"
            )
        yield list(page)
        after_id = ids[-1]


def items_of(
    page: Sequence[dict[str, Any]], dim: int, model_id: str, with_vectors: bool = True, with_fields: bool = True
) -> ItemSet:
    """Rows as items."""
    matrix = np.zeros((len(page), dim if with_vectors else 0), np.float32)
    if with_vectors and page:
        matrix = np.array([row[VECTOR] for row in page], np.float32)
    fields = tuple(row[FIELDS] for row in page) if with_fields else ()
    return ItemSet(VectorSet([row[ID] for row in page], matrix, model_id), fields)


def _most_bytes(fields: Fields) -> int:
    """At least the bytes of an item's fields as JSON, counted quickly, and its id's."""
    most: int = sum(
        len(name) + 32 + (6 * len(value) if isinstance(value, str) else 0) for name, value in fields.items()
    )
    return MAX_ID_BYTES + min(most, MAX_FIELDS_BYTES)
