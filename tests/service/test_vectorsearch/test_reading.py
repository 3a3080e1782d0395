# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search over real gRPC: delete, fetch and scan."""

from __future__ import annotations

import numpy as np
import pytest

from gandt.client.connection import Channel
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import InvalidInput
from gandt.domain.filters import And, Exists, In, Range
from gandt.domain.progress import Progress
from gandt.domain.search_records import (
    ItemSet,
)
from gandt.wire import vectorsearch as wire
from gandt.wire.vectorsearch import pb
from tests.service.test_vectorsearch.samples import vectors


def test_delete_says_what_existed_and_a_dry_run_changes_nothing(client: VectorSearchClient) -> None:
    client.create_collection("c", 8, "m")
    given = vectors(10)
    client.upsert("c", ItemSet(given, [{"n": n} for n in range(10)]))
    before = client.get_collection("c")
    assert client.delete("c", ["i0001", "nope"], dry_run=True).ids == ("i0001",)
    assert client.delete("c", condition=Range("n", gte=7), dry_run=True).ids == ("i0007", "i0008", "i0009")
    assert client.get_collection("c") == before
    gone = client.delete("c", condition=Range("n", gte=7))
    assert gone.ids == ("i0007", "i0008", "i0009")
    assert gone.generation > before.generation
    assert client.delete("c", ["nope", "i0002", "i0001"]).ids == ("i0002", "i0001")
    assert client.get_collection("c").items == 5
    with pytest.raises(InvalidInput) as caught:
        client.delete("c")
    assert caught.value.reason == "NO_SELECTOR"
    assert len(client.delete("c", condition=And()).ids) == 5


def test_fetch_in_order_with_fields_in_as_many_calls_as_needed(client: VectorSearchClient, channel: Channel) -> None:
    client.create_collection("c", 4, "m")
    given = vectors(200, dim=4)
    client.upsert("c", ItemSet(given, [{"n": n} for n in range(200)]))
    ids = [*reversed(given.ids), "nope"]
    found = client.fetch("c", ids, with_fields=True)
    assert list(found.items.ids) == ids[:-1]
    assert found.missing == ("nope",)
    assert [row["n"] for row in found.items.fields] == list(range(199, -1, -1))
    assert client.fetch("c", []).missing == ()
    with pytest.raises(InvalidInput, match="16384"):
        wire.Stub(channel).Fetch(pb.FetchRequest(collection="c", ids=["x"] * 16_385))


def test_a_fetch_that_would_not_fit_is_refused(client: VectorSearchClient, channel: Channel) -> None:
    client.create_collection("c", 32_768, "m")
    with pytest.raises(InvalidInput) as caught:
        wire.Stub(channel).Fetch(pb.FetchRequest(collection="c", ids=[str(n) for n in range(300)]))
    assert caught.value.reason == "ANSWER_TOO_LARGE"
    assert "at most" in caught.value.fix


def test_scan_streams_ordered_blocks_of_a_mebibyte(client: VectorSearchClient, channel: Channel) -> None:
    client.create_collection("c", 512, "m")
    given = vectors(1500, dim=512)
    client.upsert("c", ItemSet(given, [{"even": n % 2 == 0} for n in range(1500)]))
    responses = list(wire.Stub(channel).Scan(pb.ScanRequest(collection="c", with_vectors=True)))
    assert max(response.ByteSize() for response in responses) <= 1 << 20
    assert responses[0].total == 1500
    read = client.read("c")
    assert (list(read.ids), read.model_id) == (list(given.ids), "m")
    assert np.array_equal(read.matrix, given.matrix)
    half = list(client.scan("c", In("even", (True,)), after_id="i0700", dtype=np.dtype(np.float16)))
    assert [image_id for block in half for image_id in block.ids] == [f"i{n:04d}" for n in range(702, 1500, 2)]
    assert half[0].matrix.dtype == np.float16
    reports: list[Progress] = []
    bare = list(client.scan_items("c", with_vectors=False, on_progress=reports.append))
    assert sum(len(block) for block in bare) == 1500
    assert bare[0].vectors.dim == 0
    assert bare[0].fields[:2] == ({"even": True}, {"even": False})
    assert reports[-1] == Progress("scanning", 1500, 1500)
    assert len(client.read("c", Exists("absent"))) == 0


def test_scan_serves_the_block_size_asked_for(client: VectorSearchClient, channel: Channel) -> None:
    client.create_collection("c", 2, "m")
    client.upsert("c", vectors(10, dim=2))
    request = pb.ScanRequest(collection="c", with_vectors=True, block_rows=4)
    responses = list(wire.Stub(channel).Scan(request))
    assert [len(response.block.ids) for response in responses] == [4, 4, 2]
