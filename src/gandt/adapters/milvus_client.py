# SPDX-License-Identifier: GPL-3.0-or-later
"""What the adapters on pymilvus share: a quiet client, our schema, rows in and out, paging, its errors as ours."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from gandt.domain.errors import BackendUnavailable, CorruptData, GandtError, WrongState
from gandt.domain.filters import Filter, Ids, compile_milvus, quoted
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import MAX_ID_BYTES, VectorSet

ID, GENERATION, FIELDS, VECTOR = "id", "gen", "fields", "vector"
MODEL_PROPERTY = "gandt_model_id"  # of a collection; Lite drops descriptions and keeps properties
GENERATION_PROPERTY = "gandt_generation"
WRITE_ROWS = 1000
MESSAGE_BYTES = 32 << 20  # a cluster takes 64 MB
PAGE_ROWS = 16_384
IDS_A_CALL = 1000


@dataclass(frozen=True, slots=True)
class Described:
    """A collection of ours in Milvus, by its own name; `generation` is the last one that its properties note."""

    name: str
    dim: int
    model_id: str
    generation: int


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
    client: Any, name: str, dim: int, model_id: str, index_type: str, index_params: dict[str, int], **options: Any
) -> None:
    """A collection with our schema, an index on cosine similarity, and our properties."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field(ID, DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
    schema.add_field(GENERATION, DataType.INT64)
    schema.add_field(FIELDS, DataType.JSON)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=dim)
    index = client.prepare_index_params()
    index.add_index(VECTOR, index_type=index_type, metric_type="COSINE", params=index_params)
    properties = {MODEL_PROPERTY: model_id, GENERATION_PROPERTY: "0"}
    client.create_collection(name, schema=schema, index_params=index, properties=properties, **options)


def describe(client: Any, name: str) -> Described | None:
    """A collection, or None when it is not one of ours."""
    described = client.describe_collection(name)
    properties = described["properties"]
    if MODEL_PROPERTY not in properties:
        return None
    dim = next(field["params"]["dim"] for field in described["fields"] if field["name"] == VECTOR)
    generation = int(properties.get(GENERATION_PROPERTY, 0))
    return Described(described["collection_name"], int(dim), properties[MODEL_PROPERTY], generation)


def note_generation(client: Any, name: str, generation: int) -> None:
    """Writes a generation into the collection's properties."""
    client.alter_collection_properties(name, properties={GENERATION_PROPERTY: str(generation)})


def count(client: Any, name: str, expression: str = "", **options: Any) -> int:
    """Items that match, counted by a query; the collection's statistics count deleted rows too."""
    return int(client.query(name, filter=expression, output_fields=["count(*)"], **options)[0]["count(*)"])


def upsert(client: Any, name: str, items: ItemSet, generation: int) -> None:
    """Inserts or replaces items in calls of at most 1000 rows and 32 MiB. Never `insert`: a cluster would double."""
    step = max(1, min(WRITE_ROWS, MESSAGE_BYTES // (4 * items.vectors.dim)))
    matrix = np.asarray(items.vectors.matrix, np.float32)
    for start in range(0, len(items), step):
        rows = [
            {
                ID: items.ids[i],
                GENERATION: generation,
                FIELDS: dict(items.fields[i]) if items.fields else {},
                VECTOR: matrix[i],
            }
            for i in range(start, min(start + step, len(items)))
        ]
        client.upsert(name, rows)


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
    **options: Any,
) -> Iterator[list[dict[str, Any]]]:
    """Rows in id order. pymilvus' own iterator does not escape the id at which a page ends, so this one does.

    A cluster pins every page to the moment of the first one; Lite shows what is written meanwhile.

    Raises:
        CorruptData: a page is not in order, so that rows could be lost.
    """
    more = f" and {compile_milvus(condition)}" if condition is not None else ""
    moment: dict[str, Any] = {}
    while True:
        page = client.query(
            name,
            filter=f"{ID} > {quoted(after_id)}{more}",
            limit=rows,
            output_fields=list(fields),
            iterator="True",
            reduce_stop_for_best="True",
            **{**options, **moment},
        )
        if not page:
            return
        ids = [after_id, *(row[ID] for row in page)]
        if any(earlier >= later for earlier, later in itertools.pairwise(ids)):
            raise CorruptData(
                f"Milvus gave a page of collection {name} out of order", kind="collection", id=name, reason="UNORDERED"
            )
        yield list(page)
        if len(page) < rows:
            return
        after_id = ids[-1]
        at = int((getattr(page, "extra", None) or {}).get("iterator_session_ts", 0) or 0)
        if at > 0 and not moment:
            moment = {"guarantee_timestamp": at}


def items_of(
    page: Sequence[dict[str, Any]], dim: int, model_id: str, with_vectors: bool = True, with_fields: bool = True
) -> ItemSet:
    """Rows as items."""
    matrix = np.zeros((len(page), dim if with_vectors else 0), np.float32)
    if with_vectors and page:
        matrix = np.array([row[VECTOR] for row in page], np.float32)
    fields = tuple(row[FIELDS] for row in page) if with_fields else ()
    return ItemSet(VectorSet([row[ID] for row in page], matrix, model_id), fields)


@contextmanager
def translated(what: str, where: str, backend: str) -> Iterator[None]:
    """Errors of pymilvus, and the raw gRPC and socket errors that it lets through, as ours."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, OSError) as error:
        raise _error(error, what, where, backend) from error


def _error(error: Exception, what: str, where: str, backend: str) -> GandtError:
    text = str(getattr(error, "message", "") or error) or type(error).__name__
    if "No space left" in text or "Errno 28" in text:
        return WrongState(
            f"no space left to {what} in {where}",
            kind="disk",
            id=where,
            state="full",
            reason="DISK_FULL",
            fix="free some space and send the items again",
        )
    return BackendUnavailable(
        f"{backend} at {where} could not {what}: {text.splitlines()[0][:300]}",
        backend=backend,
        reason="VECTOR_STORE_FAILED",
        fix="retry; sending the same items again is safe",
    )
