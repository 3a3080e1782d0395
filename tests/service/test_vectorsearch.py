# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search over real gRPC: every RPC, through the typed client and through bare messages."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.client.connection import Channel, connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import AlreadyExists, GandtError, InvalidInput, NotFound, WrongState
from gandt.domain.filters import And, Exists, In, Not, Range
from gandt.domain.progress import Progress
from gandt.domain.search_records import (
    DuplicateReport,
    Example,
    ExampleStrategy,
    ItemSet,
    SearchAnswer,
    SearchOptions,
    UpsertAck,
)
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread
from gandt.wire import types
from gandt.wire import vectorsearch as wire
from gandt.wire.vectorsearch import pb


@pytest.fixture(scope="module")
def channel() -> Iterator[Channel]:
    with (
        ServerThread(assemble(MemoryVectors(max_resident_bytes=8 << 20))) as server,
        connect(server.addresses["vectorsearch"].service, service="vectorsearch") as opened,
    ):
        yield opened


@pytest.fixture
def client(channel: Channel) -> VectorSearchClient:
    """A client; the server has no collections."""
    made = VectorSearchClient(channel)
    for collection in made.list_collections():
        made.delete_collection(collection.name)
    return made


def vectors(count: int, dim: int = 8, seed: int = 0, prefix: str = "i", model_id: str = "m") -> VectorSet:
    rng = np.random.default_rng(seed)
    return VectorSet(
        [f"{prefix}{n:04d}" for n in range(count)], rng.normal(size=(count, dim)).astype(np.float32), model_id
    )


def ids_of(answer: SearchAnswer, query: int = 0) -> list[str]:
    return [hit.image_id for hit in answer.results[query].hits]


# ---- collections ----


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


# ---- upsert ----


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


# ---- delete, fetch, scan ----


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


# ---- search ----


@pytest.fixture
def compass(client: VectorSearchClient) -> VectorSearchClient:
    client.create_collection("c", 2, "m")
    angles = {"east": 0, "ene": 22, "ne": 45, "north": 90, "west": 180, "south": 270}
    matrix = np.array([[np.cos(np.radians(a)), np.sin(np.radians(a))] for a in angles.values()], np.float32)
    fields = [{"side": "right"}, {"side": "right"}, {"side": "right"}, {"side": "up"}, {}, {}]
    client.upsert("c", ItemSet(VectorSet(list(angles), matrix, "m"), fields))
    return client


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


# ---- near-duplicates ----


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


# ---- the wire ----


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
