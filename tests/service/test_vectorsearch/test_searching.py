# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search over real gRPC: searches, near-duplicates, and what the wire refuses."""

from __future__ import annotations

import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.client.connection import Channel, connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt.domain.filters import Exists, In, Not
from gandt.domain.progress import Progress
from gandt.domain.search_records import (
    DuplicateReport,
    Example,
    ExampleStrategy,
    ItemSet,
    SearchOptions,
)
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread
from gandt.wire import types
from gandt.wire import vectorsearch as wire
from gandt.wire.vectorsearch import pb
from tests.service.test_vectorsearch.samples import ids_of, vectors


def test_search_by_vectors(compass: VectorSearchClient) -> None:
    answer = compass.search_vectors("c", np.array([[3.0, 0.0], [0, 1]]), SearchOptions(k=2), model_id="m")
    assert [ids_of(answer, 0), ids_of(answer, 1)] == [["east", "ene"], ["north", "ne"]]
    assert answer.results[0].hits[0].score == 1.0
    assert (answer.exact, answer.candidates, answer.index) == (True, 6, "resident")
    assert answer.generation == compass.get_collection("c").generation
    assert ids_of(compass.search_vectors("c", np.array([1.0, 0]), SearchOptions(k=2, offset=1))) == ["ene", "ne"]
    assert len(ids_of(compass.search_vectors("c", np.array([1.0, 0])))) == 6


def test_search_by_ids_leaves_the_item_out(compass: VectorSearchClient) -> None:
    answer = compass.search_ids("c", ["east", "north"], SearchOptions(k=1))
    assert [ids_of(answer, 0), ids_of(answer, 1)] == [["ene"], ["ne"]]
    assert ids_of(compass.search_ids("c", ["east"], SearchOptions(k=1), include_self=True)) == ["east"]
    with pytest.raises(NotFound) as caught:
        compass.search_ids("c", ["nowhere"])
    assert (caught.value.reason, caught.value.kind) == ("IMAGE_NOT_EMBEDDED", "image")


@pytest.mark.parametrize("strategy", list(ExampleStrategy))
def test_search_by_examples_leaves_the_examples_out(compass: VectorSearchClient, strategy: ExampleStrategy) -> None:
    answer = compass.search_examples("c", [Example("east"), Example("ene", 2.0)], [Example("west")], strategy)
    assert ids_of(answer)[0] == "ne"
    assert not {"east", "ene", "west"} & set(ids_of(answer))


def test_filters_scores_fields_and_vectors(compass: VectorSearchClient) -> None:
    options = SearchOptions(condition=Not(Exists("side")), with_fields=True, with_vectors=True)
    answer = compass.search_vectors("c", np.array([-1.0, -0.1]), options)
    assert ids_of(answer) == ["west", "south"]
    assert answer.results[0].vectors is not None
    assert list(answer.results[0].vectors.ids) == ["west", "south"]
    near = compass.search_vectors("c", np.array([1.0, 0]), SearchOptions(min_score=0.7, with_fields=True))
    assert [(hit.image_id, hit.fields) for hit in near.results[0].hits] == [
        ("east", {"side": "right"}),
        ("ene", {"side": "right"}),
        ("ne", {"side": "right"}),
    ]
    assert near.results[0].vectors is None


def test_groups_limit_a_value(compass: VectorSearchClient) -> None:
    east = np.array([1.0, 0.001])
    one = compass.search_vectors("c", east, SearchOptions(k=3, group_by="side"))
    assert ids_of(one) == ["east", "north", "south"]  # items without the field belong to no group
    two = compass.search_vectors("c", east, SearchOptions(k=2, offset=1, group_by="side", group_size=2))
    assert ids_of(two) == ["ene", "north"]


def test_groups_are_filled_however_far_their_members_are(client: VectorSearchClient) -> None:
    client.create_collection("c", 2, "m")
    angles = np.linspace(0, 1, 500)
    matrix = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    given = VectorSet([f"i{n:04d}" for n in range(500)], matrix, "m")
    client.upsert("c", ItemSet(given, [{"g": "many" if n < 497 else f"rare{n}"} for n in range(500)]))
    answer = client.search_vectors("c", np.array([1.0, 0]), SearchOptions(k=4, group_by="g"))
    assert ids_of(answer) == ["i0000", "i0497", "i0498", "i0499"]


def test_diversity_spreads_the_hits(compass: VectorSearchClient) -> None:
    plain = compass.search_vectors("c", np.array([1.0, 0.1]), SearchOptions(k=2))
    spread = compass.search_vectors("c", np.array([1.0, 0.1]), SearchOptions(k=2, diversity=0.9))
    assert ids_of(plain) == ["east", "ene"]
    assert ids_of(spread)[0] == "east"
    assert ids_of(spread)[1] not in ("ene", "ne")
    assert spread.results[0].vectors is None


@pytest.mark.parametrize(
    "options",
    [
        SearchOptions(k=16_385),
        SearchOptions(k=10, offset=16_375),
        SearchOptions(min_score=1.5),
        SearchOptions(diversity=1.1),
        SearchOptions(diversity=float("nan")),
        SearchOptions(group_by='x"] or id != "'),
        SearchOptions(condition=In("a b", (1,))),
    ],
)
def test_options_out_of_range_are_refused(compass: VectorSearchClient, options: SearchOptions) -> None:
    with pytest.raises(InvalidInput):
        compass.search_vectors("c", np.ones(2), options)


@pytest.mark.parametrize(
    "queries",
    [np.zeros((1, 2)), np.full((1, 2), np.nan), np.ones((1, 3)), np.zeros((0, 2)), np.ones((16_385, 2))],
    ids=["zero", "nan", "wide", "none", "many"],
)
def test_queries_that_cannot_be_compared_are_refused(
    compass: VectorSearchClient, queries: np.typing.NDArray[np.floating]
) -> None:
    with pytest.raises(InvalidInput):
        compass.search_vectors("c", queries.astype(np.float32))


def test_examples_that_make_no_sense_are_refused(compass: VectorSearchClient) -> None:
    for positives in ([], [Example("east", -1.0)], [Example("east", float("inf"))], [Example("east"), Example("west")]):
        with pytest.raises(InvalidInput):
            compass.search_examples("c", positives)


def test_a_search_without_a_query_is_refused(compass: VectorSearchClient, channel: Channel) -> None:
    with pytest.raises(InvalidInput) as caught:
        wire.Stub(channel).Search(pb.SearchRequest(collection="c"))
    assert caught.value.reason == "NO_QUERY"


def test_the_most_that_is_allowed_works(compass: VectorSearchClient) -> None:
    answer = compass.search_vectors("c", np.ones((16_384, 2), np.float32), SearchOptions(k=1))
    assert len(answer.results) == 16_384
    assert len(ids_of(compass.search_vectors("c", np.ones(2), SearchOptions(k=16_384)))) == 6


def test_near_duplicates_come_as_groups_or_pairs_with_progress(client: VectorSearchClient) -> None:
    client.create_collection("c", 8, "m")
    base = vectors(30)
    near = VectorSet([f"dup{n}" for n in range(5)], base.matrix[:5] + np.float32(1e-3), "m")
    client.upsert("c", [base, near])
    reports: list[Progress] = []
    found: DuplicateReport = client.find_near_duplicates("c", on_progress=reports.append)
    groups = {tuple(member.image_id for member in group.members) for group in found.groups}
    assert {(f"dup{n}", f"i{n:04d}") for n in range(5)} <= groups
    assert sum(len(group.members) for group in found.groups) == 35
    assert reports[-1].done == reports[-1].total > 0
    pairs = client.find_near_duplicates("c", 0.999, "pairs").pairs
    assert {(pair.first_id, pair.second_id) for pair in pairs} == {(f"dup{n}", f"i{n:04d}") for n in range(5)}
    with pytest.raises(InvalidInput):
        client.find_near_duplicates("c", 1.5)
    with pytest.raises(NotFound):
        client.find_near_duplicates("absent")


def test_near_duplicates_by_content_by_order_and_with_a_cap(client: VectorSearchClient) -> None:
    client.create_collection("c", 2, "m")
    rows = VectorSet(list("abcd"), np.array([[1, 0], [0, 1], [1, 0.001], [-1, 0]], np.float32), "m")
    fields = [{"content_sha256": "h"}, {"content_sha256": "h"}, {}, {"md5": "h"}]
    client.upsert("c", ItemSet(rows, fields))

    def groups(found: DuplicateReport) -> list[str]:
        return ["".join(member.image_id for member in group.members) for group in found.groups]

    by_content = client.find_near_duplicates("c", keep="order")
    assert groups(by_content) == ["abc", "d"]
    assert (by_content.groups[0].representative_id, by_content.exact, by_content.truncated) == ("a", True, False)
    assert groups(client.find_near_duplicates("c", content_field="")) == ["ac", "b", "d"]
    assert groups(client.find_near_duplicates("c", content_field="md5")) == ["ac", "b", "d"]
    capped = client.find_near_duplicates("c", mode="pairs", max_pairs=1)
    assert [(pair.first_id, pair.second_id, pair.score) for pair in capped.pairs] == [("a", "b", 1.0)]
    assert capped.truncated
    assert not client.find_near_duplicates("c", mode="pairs", max_pairs=2).truncated
    with pytest.raises(InvalidInput):
        client.find_near_duplicates("c", mode="pairs", max_pairs=10**9)


def test_many_items_are_searched_for_near_duplicates_by_a_graph() -> None:
    with (
        ServerThread(assemble(MemoryVectors(), graph_above_rows=300)) as server,
        connect(server.addresses["vectorsearch"].service, service="vectorsearch") as channel,
    ):
        client = VectorSearchClient(channel)
        client.create_collection("c", 8, "m")
        client.upsert("c", vectors(300))
        assert client.find_near_duplicates("c").exact
        client.upsert("c", VectorSet(["twin"], vectors(1).matrix * 2, "m"))
        stages: set[str] = set()
        found = client.find_near_duplicates("c", 0.999, on_progress=lambda p: stages.add(p.stage))
        assert (found.exact, stages) == (False, {"graph"})
        assert [[m.image_id for m in group.members] for group in found.groups if len(group.members) > 1] == [
            ["i0000", "twin"]
        ]
        assert client.find_near_duplicates("c", 0.999, exact=True).exact


def test_many_pairs_are_sent_in_messages_of_a_mebibyte(client: VectorSearchClient, channel: Channel) -> None:
    client.create_collection("c", 2, "m")
    ids = [f"{n:04d}" + "x" * 500 for n in range(60)]
    client.upsert("c", VectorSet(ids, np.ones((60, 2), np.float32), "m"))
    stub = wire.Stub(channel)
    request = pb.FindNearDuplicatesRequest(collection="c", mode=pb.DUPLICATE_MODE_PAIRS)
    responses = list(stub.FindNearDuplicates(request))
    assert max(response.ByteSize() for response in responses) <= 1 << 20
    assert sum(len(response.pairs) for response in responses) == 60 * 59 // 2


def test_an_unknown_dtype_or_empty_condition_is_refused(client: VectorSearchClient, channel: Channel) -> None:
    client.create_collection("c", 2, "m")
    stub = wire.Stub(channel)
    block = types.query_block(np.ones(2, np.float32))
    block.dtype = 9  # type: ignore[assignment]
    requests: list[GandtError] = []
    for call in (
        lambda: stub.Search(pb.SearchRequest(collection="c", vectors={"block": block})),  # type: ignore[arg-type]
        lambda: list(stub.Scan(pb.ScanRequest(collection="c", dtype=9))),  # type: ignore[arg-type]
        lambda: list(stub.Scan(pb.ScanRequest(collection="c", filter={"and": {"operands": [{}]}}))),  # type: ignore[arg-type]
        lambda: stub.Search(pb.SearchRequest(collection="c", examples={"strategy": 9})),  # type: ignore[arg-type]
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        requests.append(caught.value)
    assert [error.reason for error in requests] == ["BAD_DTYPE", "BAD_DTYPE", "BAD_FILTER", "BAD_STRATEGY"]
