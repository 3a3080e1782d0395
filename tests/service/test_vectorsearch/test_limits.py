# SPDX-License-Identifier: GPL-3.0-or-later
"""The limits of a Milvus cluster through gRPC: refused with the offending id or field, before any store is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.api.type.v1 import type_pb2
from gandt.client.connection import Channel, connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import InvalidInput
from gandt.domain.fields import FieldValue
from gandt.domain.filters import And, Exists, Filter, Ids, In, Not, Or, Range
from gandt.domain.search_records import Collection, Example, ItemSet, SearchOptions
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread
from gandt.wire import vectorsearch as wire
from gandt.wire.vectorsearch import pb

EAST = np.array([1.0, 0.0], np.float32)


TOUCHING = {"create_collection", "upsert", "delete", "fetch", "scan", "nearest", "matrix"}


class Untouchable(MemoryVectors):
    """A store whose one collection may be looked at, and nothing else."""

    def get_collection(self, name: str) -> Collection:
        return Collection(name, 2, "m", 10, 1)

    def __getattribute__(self, name: str) -> Any:
        assert name not in TOUCHING, f"the store was asked to {name}"
        return super().__getattribute__(name)


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    with (
        ServerThread(assemble(Untouchable())) as server,
        connect(server.addresses["vectorsearch"].service, service="vectorsearch") as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def client(channel: Channel) -> VectorSearchClient:
    return VectorSearchClient(channel)


@pytest.mark.parametrize(
    ("name", "dim", "alias"),
    [("1a", 2, ""), ("a-b", 2, ""), ("a" * 256, 2, ""), ("", 2, ""), ("a", 32_769, ""), ("a", 0, ""), ("a", 2, "b c")],
)
def test_collections(client: VectorSearchClient, name: str, dim: int, alias: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        client.create_collection(name, dim, "m", alias)
    assert caught.value.reason in ("BAD_COLLECTION_NAME", "BAD_DIM")


TOO_LONG_NAME = "f" * 256
BAD_ITEMS: list[tuple[str, Sequence[float], dict[str, FieldValue], str, str]] = [
    ("nan", [np.nan, 0], {}, "BAD_VECTOR", "'nan'"),
    ("inf", [np.inf, 0], {}, "BAD_VECTOR", "'inf'"),
    ("zero", [0, 0], {}, "BAD_VECTOR", "'zero'"),
    ("huge", [1e30, 0], {}, "BAD_VECTOR", "'huge'"),
    ("wide", [1, 0, 0], {}, "WRONG_DIM", "'wide'"),
    ("", [1, 0], {}, "BAD_IMAGE_ID", "1 to 512"),
    ("x" * 513, [1, 0], {}, "BAD_IMAGE_ID", "513 bytes"),
    ("日" * 171, [1, 0], {}, "BAD_IMAGE_ID", "513 bytes"),
    ("line\nbreak", [1, 0], {}, "BAD_IMAGE_ID", "control character"),
    ("tab\there", [1, 0], {}, "BAD_IMAGE_ID", "control character"),
    ("nul\0", [1, 0], {}, "BAD_IMAGE_ID", "control character"),
    ("name", [1, 0], {"a b": 1}, "BAD_FIELD", "'name'"),
    ("quote", [1, 0], {'x"] or id != "': 1}, "BAD_FIELD", "'quote'"),
    ("longname", [1, 0], {TOO_LONG_NAME: 1}, "BAD_FIELD", "'longname'"),
    ("longtext", [1, 0], {"f": "x" * 4097}, "BAD_FIELD", "4097 bytes"),
    ("nanfield", [1, 0], {"f": float("nan")}, "BAD_FIELD", "'nanfield'"),
    ("many", [1, 0], {f"f{n}": n for n in range(33)}, "BAD_FIELD", "33 fields"),
    ("fat", [1, 0], {f"f{n}": "x" * 4000 for n in range(17)}, "BAD_FIELD", "'fat'"),
    ("escaped", [1, 0], {f"f{n}": "\x01" * 4000 for n in range(4)}, "BAD_FIELD", "'escaped'"),
]


@pytest.mark.parametrize(
    ("image_id", "vector", "fields", "reason", "named"), BAD_ITEMS, ids=[item[3] + item[0][:8] for item in BAD_ITEMS]
)
def test_items(
    client: VectorSearchClient,
    image_id: str,
    vector: Sequence[float],
    fields: dict[str, FieldValue],
    reason: str,
    named: str,
) -> None:
    block = ItemSet(VectorSet([image_id], np.array([vector], np.float32), "m"), [fields] if fields else ())
    report = client.upsert("c", block)
    assert report.stored == 0
    assert [(item.sequence, item.image_id, item.error.reason) for item in report.rejected] == [(0, image_id, reason)]
    assert named in str(report.rejected[0].error)


@pytest.mark.parametrize(
    ("queries", "options"),
    [
        (EAST, SearchOptions(k=16_385)),
        (EAST, SearchOptions(k=10, offset=16_375)),
        (np.ones((16_385, 2), np.float32), SearchOptions(k=1)),
        (np.zeros((0, 2), np.float32), SearchOptions()),
        (np.array([[1, 0], [0, 0]], np.float32), SearchOptions()),
        (np.array([[1, np.nan]], np.float32), SearchOptions()),
        (np.array([[np.inf, 1]], np.float32), SearchOptions()),
        (np.ones((1, 3), np.float32), SearchOptions()),
        (EAST, SearchOptions(group_by="a b")),
    ],
    ids=["k", "k + offset", "queries", "no query", "zero", "nan", "inf", "wide", "group"],
)
def test_searches(client: VectorSearchClient, queries: np.typing.NDArray[np.float32], options: SearchOptions) -> None:
    with pytest.raises(InvalidInput):
        client.search_vectors("c", queries, options)


def test_a_query_that_cannot_be_compared_is_named_by_its_row(client: VectorSearchClient) -> None:
    with pytest.raises(InvalidInput, match="query vector 1 is zero"):
        client.search_vectors("c", np.array([[1, 0], [0, 0]], np.float32))


def test_ids(channel: Channel) -> None:
    stub = wire.Stub(channel)
    many = [str(n) for n in range(16_385)]
    for call in (
        lambda: stub.Fetch(pb.FetchRequest(collection="c", ids=many)),
        lambda: stub.Search(pb.SearchRequest(collection="c", by_ids=pb.SearchRequest.ByIds(ids=many))),
        lambda: list(stub.Scan(pb.ScanRequest(collection="c", after_id="a\nb"))),
    ):
        with pytest.raises(InvalidInput):
            call()


@pytest.mark.parametrize(
    ("image_id", "named"), [("a\nb", "control character"), ("", "1 to 512"), ("日" * 171, "513 bytes")]
)
def test_an_id_that_no_item_can_have_is_named_before_the_store_is_asked(
    client: VectorSearchClient, image_id: str, named: str
) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.fetch("c", ["good", image_id]),
        lambda: client.delete("c", ["good", image_id]),
        lambda: client.delete("c", ["good", image_id], dry_run=True),
        lambda: client.search_ids("c", ["good", image_id]),
        lambda: client.search_examples("c", [Example("good"), Example(image_id)]),
    ]
    for call in calls:
        with pytest.raises(InvalidInput, match=named) as caught:
            call()
        assert caught.value.reason == "BAD_IMAGE_ID"
        assert repr(image_id[:40]) in str(caught.value)


def nested(levels: int) -> Filter:
    condition: Filter = Exists("x")
    for _ in range(levels):
        condition = Not(condition)
    return condition


BAD_FILTERS: list[tuple[Filter, str]] = [
    (nested(33), "BAD_FILTER"),
    (nested(100_000), "BAD_FILTER"),
    (And(tuple(Exists(f"f{n}") for n in range(4096))), "BAD_FILTER"),
    (Or((Exists("a b"),)), "BAD_FIELD"),
    (In("f", ("x" * 4097,)), "BAD_FIELD"),
    (In("f", (1, "1")), "BAD_FILTER"),
    (In("f", ()), "BAD_FILTER"),
    (Range("f", lt=float("inf")), "BAD_FILTER"),
    (Ids(("good", "bad\nid")), "BAD_IMAGE_ID"),
    (Not(Ids(tuple(f"{n:0512d}" for n in range(16_385)))), "BAD_FILTER"),
]


@pytest.mark.parametrize(("condition", "reason"), BAD_FILTERS, ids=range(len(BAD_FILTERS)))
def test_filters_are_refused_by_the_client(client: VectorSearchClient, condition: Filter, reason: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: client.search_vectors("c", EAST, SearchOptions(condition=condition)),
        lambda: client.delete("c", condition=condition),
        lambda: list(client.scan("c", condition)),
    ]
    for call in calls:
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.reason == reason


@pytest.mark.parametrize("levels", [33, 45])
def test_a_deep_filter_of_another_client_is_refused_by_the_service(channel: Channel, levels: int) -> None:
    condition = type_pb2.Filter(exists=type_pb2.Filter.Exists(field="x"))
    for _ in range(levels):
        outer = type_pb2.Filter()
        getattr(outer, "not").operand.CopyFrom(condition)
        condition = outer
    with pytest.raises(InvalidInput, match="32 levels"):
        list(wire.Stub(channel).Scan(pb.ScanRequest(collection="c", filter=condition)))


def _deep_scan(levels: int) -> bytes:
    """A ScanRequest of a filter nested deeper than protobuf reads (100 levels), written by hand."""

    def framed(message: type[Any], field: str, inside: bytes) -> bytes:
        tag = message.DESCRIPTOR.fields_by_name[field].number << 3 | 2
        size, out = len(inside), bytearray([tag])
        while size > 127:
            out.append(size & 127 | 128)
            size >>= 7
        return bytes([*out, size]) + inside

    condition = type_pb2.Filter(exists=type_pb2.Filter.Exists(field="x")).SerializeToString()
    for _ in range(levels):
        condition = framed(type_pb2.Filter, "not", framed(type_pb2.Filter.Not, "operand", condition))
    return pb.ScanRequest(collection="c").SerializeToString() + framed(pb.ScanRequest, "filter", condition)


def test_a_filter_deeper_than_protobuf_reads_is_the_callers_mistake(channel: Channel) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(channel.unary_stream(f"/{wire.SERVICE}/Scan")(_deep_scan(80)))
    assert caught.value.reason == "BAD_MESSAGE"
    with pytest.raises(InvalidInput, match="32 levels"):
        list(channel.unary_stream(f"/{wire.SERVICE}/Scan")(_deep_scan(40)))


def test_a_block_that_is_no_message_ends_an_upsert(channel: Channel) -> None:
    good = wire.upsert_open_message("c", "m").SerializeToString()
    with pytest.raises(InvalidInput) as caught:
        list(channel.stream_stream(f"/{wire.SERVICE}/Upsert")(iter([good, b"\xff\xff"])))
    assert caught.value.reason == "BAD_MESSAGE"
