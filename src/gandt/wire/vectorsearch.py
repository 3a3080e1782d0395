# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of gandt.vectorsearch.v1, to and from the domain's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from google.protobuf.message import Message

from gandt.api.type.v1 import type_pb2
from gandt.api.vectorsearch.v1 import vectorsearch_pb2 as pb
from gandt.api.vectorsearch.v1.vectorsearch_pb2_grpc import (
    VectorSearchServiceServicer as Servicer,
)
from gandt.api.vectorsearch.v1.vectorsearch_pb2_grpc import (
    VectorSearchServiceStub as Stub,
)
from gandt.api.vectorsearch.v1.vectorsearch_pb2_grpc import (
    add_VectorSearchServiceServicer_to_server as add_servicer,
)
from gandt.domain.errors import InvalidInput
from gandt.domain.filters import Filter
from gandt.domain.search_records import (
    Collection,
    Deleted,
    Fields,
    Found,
    ItemSet,
    RejectedItem,
    Scan,
    UpsertAck,
)
from gandt.domain.vectors import VectorSet
from gandt.wire import types

__all__ = ["SERVICE", "Servicer", "Stub", "add_servicer", "pb"]

SERVICE = "gandt.vectorsearch.v1.VectorSearchService"
MAX_ANSWER_BYTES = 32 << 20
M = TypeVar("M", bound=Message)


def collection(message: pb.Collection) -> Collection:
    """A collection."""
    aliases = tuple(message.aliases)
    return Collection(message.name, message.dim, message.model_id, message.items, message.generation, aliases)


def collection_message(described: Collection) -> pb.Collection:
    """A collection as a message."""
    return pb.Collection(
        name=described.name,
        dim=described.dim,
        model_id=described.model_id,
        items=described.items,
        generation=described.generation,
        aliases=described.aliases,
    )


def fields_message(fields: Fields) -> pb.Fields:
    """The fields of one item."""
    return pb.Fields(values={name: types.field_value_message(value) for name, value in fields.items()})


def item_set(block: type_pb2.VectorBlock, fields: Sequence[pb.Fields], model_id: str = "") -> ItemSet:
    """Items of a message; fields are one mapping a row, or () when there are none.

    Raises:
        InvalidInput: the block is malformed, or a field holds no value.
    """
    return ItemSet(types.vector_set(block, model_id=model_id), tuple(types.fields_of(row.values) for row in fields))


# ---- Upsert ----


def upsert_open(requests: Iterator[pb.UpsertRequest]) -> tuple[str, str]:
    """The first message of an upsert: the collection to write to, and the vectors' model id ("" is not checked).

    Raises:
        InvalidInput: the stream is empty or begins with a block.
    """
    first = next(requests, None)
    if first is None or first.WhichOneof("message") != "open":
        raise InvalidInput("the first message of an upsert must be `open`", field="message", reason="NOT_OPENED")
    return first.open.collection, first.open.model_id


def upsert_blocks(requests: Iterable[pb.UpsertRequest]) -> Iterator[ItemSet]:
    """The blocks after the first message.

    Raises:
        InvalidInput: a message is no block, or is malformed.
    """
    for request in requests:
        if request.WhichOneof("message") != "block":
            raise InvalidInput(
                "after the first message an upsert takes blocks only", field="message", reason="NOT_A_BLOCK"
            )
        yield item_set(request.block.vectors, request.block.fields)


def upsert_open_message(collection_name: str, model_id: str) -> pb.UpsertRequest:
    """The first message of an upsert."""
    return pb.UpsertRequest(open=pb.UpsertRequest.Open(collection=collection_name, model_id=model_id))


def upsert_block_messages(items: ItemSet) -> Iterator[pb.UpsertRequest]:
    """Items as blocks of at most 1 MiB."""
    fields = [fields_message(row) for row in items.fields]
    for start, stop in types.chunk_bounds(items.ids, _row_bytes(items, fields)):
        block = types.vector_block(VectorSet(items.ids[start:stop], items.vectors.matrix[start:stop]))
        yield pb.UpsertRequest(block=pb.UpsertRequest.Block(vectors=block, fields=fields[start:stop]))


def upsert_ack(message: pb.UpsertResponse) -> UpsertAck:
    """What the store has."""
    rejected = tuple(
        RejectedItem(item.sequence, item.image_id, types.item_error(item.error)) for item in message.rejected
    )
    return UpsertAck(message.acknowledged, message.stored, message.generation, rejected)


def upsert_ack_message(ack: UpsertAck) -> pb.UpsertResponse:
    """What the store has, as a message."""
    rejected = [
        pb.RejectedItem(
            sequence=item.sequence,
            image_id=item.image_id.encode("utf-8", "replace").decode(),
            error=types.item_error_message(item.error),
        )
        for item in ack.rejected
    ]
    return pb.UpsertResponse(
        acknowledged=ack.acknowledged, stored=ack.stored, generation=ack.generation, rejected=rejected
    )


# ---- Delete, Fetch, Scan ----


def delete_selector(message: pb.DeleteRequest) -> tuple[tuple[str, ...] | None, Filter | None]:
    """(ids, condition) of a delete; both None when nothing is selected. Raises InvalidInput on a bad filter."""
    if message.WhichOneof("selector") == "ids":
        return tuple(message.ids.ids), None
    return None, types.filter_of(message.filter if message.HasField("filter") else None)


def delete_request(name: str, ids: Sequence[str] | None, condition: Filter | None, dry_run: bool) -> pb.DeleteRequest:
    """A delete by ids or, when those are None, by condition."""
    selector = type_pb2.Filter.Ids(ids=ids) if ids is not None else None
    return pb.DeleteRequest(collection=name, ids=selector, filter=types.filter_message(condition), dry_run=dry_run)


def deleted(message: pb.DeleteResponse) -> Deleted:
    """What was deleted."""
    return Deleted(tuple(message.deleted_ids), message.generation)


def deleted_message(outcome: Deleted) -> pb.DeleteResponse:
    """What was deleted, as a message."""
    return pb.DeleteResponse(deleted_ids=outcome.ids, generation=outcome.generation)


def found(message: pb.FetchResponse, model_id: str = "") -> Found:
    """The items found."""
    return Found(item_set(message.vectors, message.fields, model_id), tuple(message.missing_ids))


def found_message(outcome: Found, with_fields: bool) -> pb.FetchResponse:
    """The items found, as a message of at most 32 MiB. Raises InvalidInput beyond."""
    fields = [fields_message(row) for row in outcome.items.fields] if with_fields else []
    return within_limit(
        pb.FetchResponse(vectors=types.vector_block(outcome.items.vectors), fields=fields, missing_ids=outcome.missing)
    )


def scan_messages(scan: Scan, dtype: np.dtype[np.floating], with_vectors: bool) -> Iterator[pb.ScanResponse]:
    """An open scan as messages of at most 1 MiB; one without items when nothing matches."""
    first = pb.ScanResponse(generation=scan.generation, total=scan.total)
    for block in scan.blocks:
        matrix = block.vectors.matrix.astype(dtype, copy=False)
        fields = [fields_message(row) for row in block.fields]
        costs = _row_bytes(ItemSet(VectorSet(block.ids, matrix)), fields)
        for start, stop in types.chunk_bounds(block.ids, costs):
            part = VectorSet(block.ids[start:stop], matrix[start:stop])
            message, first = first, pb.ScanResponse(generation=scan.generation)
            message.block.CopyFrom(types.vector_block(part) if with_vectors else type_pb2.VectorBlock(ids=part.ids))
            message.fields.extend(fields[start:stop])
            yield message
    if scan.total == 0:
        yield first


def scan_block(message: pb.ScanResponse, model_id: str = "") -> ItemSet:
    """The items of one message of a scan."""
    return item_set(message.block, message.fields, model_id)


def within_limit(message: M) -> M:
    """The message, or InvalidInput when it is over 32 MiB."""
    if message.ByteSize() > MAX_ANSWER_BYTES:
        raise InvalidInput(
            f"the answer takes {message.ByteSize():,} bytes, at most {MAX_ANSWER_BYTES:,} fit",
            reason="ANSWER_TOO_LARGE",
            fix="ask for fewer items at once",
        )
    return message


def _row_bytes(items: ItemSet, fields: Sequence[pb.Fields]) -> int | list[int]:
    vector_bytes = items.vectors.dim * items.vectors.matrix.dtype.itemsize
    return [vector_bytes + row.ByteSize() + 4 for row in fields] if fields else vector_bytes
