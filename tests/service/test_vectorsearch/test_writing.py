# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search over real gRPC: collections and upserts, through the typed client and through bare messages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gandt.client.connection import Channel
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import AlreadyExists, InvalidInput, NotFound, WrongState
from gandt.domain.search_records import (
    ItemSet,
    UpsertAck,
)
from gandt.domain.vectors import VectorSet
from gandt.wire import types
from gandt.wire import vectorsearch as wire
from gandt.wire.vectorsearch import pb
from tests.service.test_vectorsearch.samples import vectors


def test_collections_live_and_die(client: VectorSearchClient) -> None:
    made = client.create_collection("photos", 8, "m")
    assert made == client.create_collection("photos", 8, "m") == client.get_collection("photos")
    with pytest.raises(AlreadyExists):
        client.create_collection("photos", 9, "m")
    client.upsert("photos", vectors(5))
    assert client.delete_collection("photos") == 5
    with pytest.raises(NotFound) as caught:
        client.get_collection("photos")
    assert caught.value.reason == "COLLECTION_NOT_FOUND"


@pytest.mark.parametrize(
    ("name", "dim"), [("", 8), ("1a", 8), ("a-b", 8), ("a" * 256, 8), ("ok\n", 8), ("ok", 0), ("ok", 32_769)]
)
def test_bad_collections_are_refused(client: VectorSearchClient, name: str, dim: int) -> None:
    with pytest.raises(InvalidInput):
        client.create_collection(name, dim, "m")


def test_listing_pages_by_name(client: VectorSearchClient, channel: Channel) -> None:
    for number in range(5):
        client.create_collection(f"c{number}", 2, "m")
    stub, token, names = wire.Stub(channel), "", []
    while True:
        page = stub.ListCollections(pb.ListCollectionsRequest(page_size=2, page_token=token))
        names.append([found.name for found in page.collections])
        token = page.next_page_token
        if not token:
            break
    assert names == [["c0", "c1"], ["c2", "c3"], ["c4"]]
    with pytest.raises(InvalidInput):
        stub.ListCollections(pb.ListCollectionsRequest(page_size=1001))


def test_upsert_is_acknowledged_and_idempotent(client: VectorSearchClient) -> None:
    client.create_collection("c", 512, "m")
    acks: list[UpsertAck] = []
    given = vectors(2000, dim=512)
    report = client.upsert("c", given, on_ack=acks.append)
    assert (report.stored, report.rejected) == (2000, ())
    assert len(acks) >= 4  # blocks of 1 MiB
    assert [ack.acknowledged for ack in acks] == sorted(ack.acknowledged for ack in acks)
    assert acks[-1].acknowledged == 2000
    assert client.upsert("c", given.blocks(100)).generation == report.generation
    assert client.get_collection("c").items == 2000


def test_bad_items_are_rejected_alone_with_their_position(client: VectorSearchClient) -> None:
    client.create_collection("c", 3, "m")
    matrix = np.array([[1, 0, 0], [np.nan, 0, 0], [0, 0, 0], [np.inf, 0, 0], [1e-30, 0, 0], [0, 1, 0], [0, 0, 1]])
    ids = ["good", "nan", "zero", "inf", "tiny", "new\nline", "x" * 513]
    wrong_size = VectorSet(["wide"], np.ones((1, 4), np.float32), "m")
    bad_field = ItemSet(VectorSet(["field"], np.ones((1, 3), np.float32), "m"), [{"a b": 1}])
    last = VectorSet(["late"], np.ones((1, 3), np.float32), "m")
    report = client.upsert("c", [VectorSet(ids, matrix.astype(np.float32), "m"), wrong_size, bad_field, last])
    assert report.stored == 2
    assert [(item.sequence, item.error.reason) for item in report.rejected] == [
        (1, "BAD_VECTOR"),
        (2, "BAD_VECTOR"),
        (3, "BAD_VECTOR"),
        (4, "BAD_VECTOR"),
        (5, "BAD_IMAGE_ID"),
        (6, "BAD_IMAGE_ID"),
        (7, "WRONG_DIM"),
        (8, "BAD_FIELD"),
    ]
    assert [item.image_id for item in report.rejected][-2:] == ["wide", "field"]
    assert "'nan'" in str(report.rejected[0].error)
    assert all(isinstance(item.error, InvalidInput) for item in report.rejected)
    assert client.fetch("c", ["good", "late", "nan", "field"]).missing == ("nan", "field")


def test_of_an_id_given_twice_the_last_good_one_wins(client: VectorSearchClient) -> None:
    client.create_collection("c", 2, "m")
    matrix = np.array([[1, 0], [2, 0], [np.nan, 0], [3, 0]], np.float32)
    report = client.upsert("c", VectorSet(["a", "b", "b", "a"], matrix, "m"))
    assert (report.stored, len(report.rejected)) == (3, 1)
    assert client.fetch("c", ["a", "b"]).items.vectors.matrix[:, 0].tolist() == [3, 2]


def test_vectors_of_another_model_are_refused(client: VectorSearchClient) -> None:
    client.create_collection("c", 8, "m")
    with pytest.raises(WrongState) as caught:
        client.upsert("c", vectors(3, model_id="other"))
    assert (caught.value.reason, caught.value.state) == ("MODEL_MISMATCH", "m")
    assert client.upsert("c", vectors(3, model_id="other"), model_id="").stored == 3
    with pytest.raises(WrongState):
        client.search_vectors("c", np.ones(8), model_id="other")
    with pytest.raises(InvalidInput):
        client.upsert("c", [vectors(1), vectors(1, model_id="other")])


def test_what_the_source_raises_reaches_the_caller_and_acknowledged_items_stay(client: VectorSearchClient) -> None:
    client.create_collection("c", 8, "m")

    def source() -> Iterator[VectorSet]:
        yield vectors(3)
        raise FileNotFoundError("shard-2.parquet")

    with pytest.raises(FileNotFoundError):
        client.upsert("c", source())
    assert client.get_collection("c").items == 3


def test_a_full_memory_is_refused_with_the_way_out(client: VectorSearchClient) -> None:
    client.create_collection("c", 2048, "m")
    with pytest.raises(WrongState, match="max_resident_bytes") as caught:
        client.upsert("c", vectors(1500, dim=2048))
    assert caught.value.reason == "RESIDENT_MEMORY_FULL"
    assert client.get_collection("c").items < 1100


SHORT = types.vector_block(vectors(1, dim=2))
SHORT.data = b"123"
PAIR = types.vector_block(vectors(2, dim=2))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [pb.UpsertRequest()],
        [pb.UpsertRequest(block=pb.UpsertRequest.Block())],
        [wire.upsert_open_message("c", ""), wire.upsert_open_message("c", "")],
        [
            wire.upsert_open_message("c", ""),
            pb.UpsertRequest(block=pb.UpsertRequest.Block(vectors=SHORT)),
        ],
        [
            wire.upsert_open_message("c", ""),
            pb.UpsertRequest(block=pb.UpsertRequest.Block(vectors=PAIR, fields=[pb.Fields()])),
        ],
    ],
)
def test_a_malformed_stream_is_invalid(
    client: VectorSearchClient, channel: Channel, messages: list[pb.UpsertRequest]
) -> None:
    client.create_collection("c", 2, "m")
    with pytest.raises(InvalidInput):
        list(wire.Stub(channel).Upsert(iter(messages)))


def test_an_upsert_of_nothing_says_so(client: VectorSearchClient) -> None:
    client.create_collection("c", 2, "m")
    assert client.upsert("c", []).stored == 0
