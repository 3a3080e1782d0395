# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every VectorStore: the same calls give the same results."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from milvus_lite.server_manager import server_manager_instance

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.milvus_server import IndexSpec, MilvusServer
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.errors import AlreadyExists, BackendUnavailable, GandtError, NotFound, WrongState
from gandt.domain.fields import FieldValue
from gandt.domain.filters import And, Exists, Filter, Ids, In, Not, Or, Range, matches
from gandt.domain.near_duplicates import DuplicateSpec, find_near_duplicates
from gandt.domain.search_records import ExampleStrategy, ExampleVectors, ItemSet, NearestQuery
from gandt.domain.vectors import VectorSet
from gandt.ports.vector_store import VectorStore

Make = Callable[[], VectorStore]


NAMES = {"a", "b", "c"}  # all that these tests create: a server that is tested may hold more
MILVUS_URI = os.environ.get("GANDT_TEST_MILVUS_URI", "")


@pytest.fixture(scope="module", params=["memory", "milvus-lite", "milvus-server"])
def shared_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VectorStore]:
    """One store a module, as starting one costs more than a test.

    The server adapter runs against GANDT_TEST_MILVUS_URI; without one, against Milvus Lite, which speaks the same API.
    """
    folder = tmp_path_factory.mktemp("vectors")
    store: VectorStore = MemoryVectors()
    if request.param == "milvus-lite":
        store = ResidentVectors(MilvusLiteJournal(folder))
    if request.param == "milvus-server":
        store = MilvusServer(MILVUS_URI or str(folder / "milvus.db"), os.environ.get("GANDT_TEST_MILVUS_TOKEN", ""))
    store.open()
    yield store
    store.close()
    if request.param == "milvus-server" and not MILVUS_URI:
        server_manager_instance.release_server(str(folder / "milvus.db"))


@pytest.fixture
def store(shared_store: VectorStore) -> VectorStore:
    """The store, without the collections of these tests."""
    for collection in shared_store.list_collections():
        if collection.name in NAMES:
            shared_store.delete_collection(collection.name)
    return shared_store


def items(ids: Sequence[str], matrix: object, fields: Sequence[dict[str, FieldValue]] = ()) -> ItemSet:
    return ItemSet(VectorSet(list(ids), np.array(matrix, np.float32).reshape(len(ids), -1)), fields)


def random_items(count: int, dim: int = 8, seed: int = 0, prefix: str = "i") -> ItemSet:
    rng = np.random.default_rng(seed)
    return items([f"{prefix}{n:04d}" for n in range(count)], rng.normal(size=(count, dim)))


def all_ids(store: VectorStore, name: str, condition: Filter | None = None) -> list[str]:
    return [image_id for block in store.scan(name, condition, block_rows=7).blocks for image_id in block.ids]


def test_creating_again_succeeds_and_other_properties_do_not(store: VectorStore) -> None:
    made = store.create_collection("c", 4, "model")
    assert (made.name, made.dim, made.model_id, made.items, made.generation) == ("c", 4, "model", 0, 0)
    assert store.create_collection("c", 4, "model") == made
    with pytest.raises(AlreadyExists):
        store.create_collection("c", 5, "model")
    with pytest.raises(AlreadyExists):
        store.create_collection("c", 4, "other")


def test_collections_are_listed_by_name_and_deleted_with_their_items(store: VectorStore) -> None:
    for name in ("b", "a"):
        store.create_collection(name, 2, "")
    store.upsert("a", items(["x", "y"], [[1, 0], [0, 1]]))
    assert [found.name for found in store.list_collections() if found.name in NAMES] == ["a", "b"]
    assert store.delete_collection("a") == 2
    with pytest.raises(NotFound):
        store.delete_collection("a")
    assert store.create_collection("a", 2, "").items == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get_collection("absent"),
        lambda store: store.upsert("absent", items(["x"], [[1, 0]])),
        lambda store: store.delete("absent", ["x"]),
        lambda store: store.fetch("absent", ["x"]),
        lambda store: store.scan("absent"),
        lambda store: store.nearest("absent", NearestQuery(np.ones((1, 2), np.float32), 1)),
        lambda store: store.matrix("absent"),
    ],
)
def test_an_absent_collection_is_not_found(store: VectorStore, call: Callable[[VectorStore], object]) -> None:
    with pytest.raises(NotFound) as caught:
        call(store)
    assert caught.value.reason == "COLLECTION_NOT_FOUND"


def test_vectors_come_back_bit_for_bit(store: VectorStore) -> None:
    store.create_collection("c", 6, "m")
    given = items(["x"], [[1e-8, -0.0, 3.1415927, 16777217.0, 1e-7 + 1, -2.5]])
    store.upsert("c", given)
    back = store.fetch("c", ["x"]).items.vectors
    assert back.matrix.tobytes() == given.vectors.matrix.tobytes()
    assert back.model_id == "m"


def test_upserting_replaces_and_may_be_repeated(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    first = store.upsert("c", items(["x", "y"], [[1, 0], [0, 1]], [{"a": 1}, {}]))
    again = store.upsert("c", items(["x"], [[1, 0]], [{"a": 1}]))
    assert again == first if isinstance(store, ResidentVectors) else again > first
    second = store.upsert("c", items(["x"], [[1, 0]], [{"a": 1.0}]))
    third = store.upsert("c", items(["x"], [[2, 1]]))
    assert first < second < third
    found = store.fetch("c", ["x"], with_fields=True).items
    assert found.vectors.matrix.tolist() == [[2, 1]]
    assert found.fields == ({},)
    assert store.get_collection("c").items == 2


TRAPS = ["o'q", 'a"b', "back\\slash", "日本 語", "s3://b/k", "50 %, x", "'); drop", '["x"]', "😀", "a" * 512]


def test_ids_with_quotes_and_backslashes_live_and_die(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    store.upsert("c", items(TRAPS, [[1, n] for n in range(len(TRAPS))]))
    assert store.fetch("c", TRAPS).missing == ()
    assert all_ids(store, "c") == sorted(TRAPS)
    deleted = store.delete("c", [*TRAPS[:5], "never there", TRAPS[0]])
    assert list(deleted.ids) == TRAPS[:5]
    assert all_ids(store, "c") == sorted(TRAPS[5:])
    assert store.delete("c", ["never there"]).generation == deleted.generation


def test_fields_keep_their_kind(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    fields: dict[str, FieldValue] = {
        "text": 'quote " \\ \n 日本',
        "int": 2**62 + 1,
        "one": 1,
        "real": 1.0,
        "small": 5e-324,
        "yes": True,
        "no": False,
    }
    store.upsert("c", items(["x"], [[1, 0]], [fields]))
    back = store.fetch("c", ["x"], with_fields=True).items.fields[0]
    assert back == fields
    assert {name: type(value) for name, value in back.items()} == {n: type(v) for n, v in fields.items()}


def test_fetch_keeps_the_order_asked_for(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    store.upsert("c", items(["a", "b", "c"], [[1, 0], [2, 0], [3, 0]]))
    found = store.fetch("c", ["c", "nope", "a", "c", "neither"])
    assert list(found.items.ids) == ["c", "a", "c"]
    assert found.items.vectors.matrix[:, 0].tolist() == [3, 1, 3]
    assert found.missing == ("nope", "neither")
    nothing = store.fetch("c", ["nope"]).items
    assert (len(nothing), nothing.vectors.dim) == (0, 2)


def test_scan_is_ordered_and_resumable(store: VectorStore) -> None:
    store.create_collection("c", 8, "")
    given = random_items(50)
    shuffled = np.random.default_rng(1).permutation(50)
    store.upsert("c", ItemSet(VectorSet([given.ids[i] for i in shuffled], given.vectors.matrix[shuffled])))
    scan = store.scan("c", block_rows=7)
    blocks = list(scan.blocks)
    assert scan.total == 50
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    assert [image_id for block in blocks for image_id in block.ids] == list(given.ids)
    assert np.array_equal(np.concatenate([block.vectors.matrix for block in blocks]), given.vectors.matrix)
    rest = store.scan("c", after_id="i0041x", with_vectors=False)
    assert rest.total == 8
    assert [list(block.ids) for block in rest.blocks] == [[f"i{n:04d}" for n in range(42, 50)]]
    assert list(store.scan("c", after_id="j").blocks) == []


def test_a_scan_shows_the_moment_it_began(store: VectorStore) -> None:
    if isinstance(store, MilvusServer) and not MILVUS_URI:
        pytest.skip("Milvus Lite itself has no snapshots; set GANDT_TEST_MILVUS_URI")
    store.create_collection("c", 8, "")
    given = random_items(300)
    store.upsert("c", given)
    stop, failures = threading.Event(), list[GandtError]()

    def write() -> None:
        round_ = 0
        while not stop.is_set() and round_ < 50:
            round_ += 1
            try:
                store.upsert("c", random_items(40, seed=round_))
                store.upsert("c", random_items(20, seed=round_, prefix=f"new{round_}-"))
                store.delete("c", [f"new{round_}-0001"])
            except GandtError as error:
                failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(10):
            scan = store.scan("c", block_rows=11)
            seen = [image_id for block in scan.blocks for image_id in block.ids]
            assert len(seen) == scan.total
            assert seen == sorted(set(seen))
            assert set(given.ids) <= set(seen)
    finally:
        stop.set()
        writer.join()
    assert failures == []


FIELDS: list[dict[str, FieldValue]] = [
    {"split": "train", "n": 1, "score": 0.5, "done": True},
    {"split": "test", "n": 2, "score": -1.5, "done": False},
    {"split": 'q"\\', "n": 3.0},
    {"n": -4},
    {},
]
CONDITIONS: list[Filter] = [
    In("split", ("train", 'q"\\')),
    In("n", (3, 1)),
    In("n", (1.0,)),
    In("done", (True,)),
    Range("n", gte=1, lt=3),
    Range("score", gt=-1.5),
    Range("n"),
    Exists("score"),
    Not(Exists("score")),
    Not(In("n", (1,))),
    Ids(("i0", "i4", "absent")),
    And(),
    Or(),
    And((Exists("n"), Not(Or((In("split", ("train",)), Range("n", lt=0)))))),
]


@pytest.mark.parametrize("condition", CONDITIONS, ids=str)
def test_filters_keep_what_they_say(store: VectorStore, condition: Filter) -> None:
    store.create_collection("c", 2, "")
    ids = [f"i{n}" for n in range(len(FIELDS))]
    store.upsert("c", items(ids, [[1, n] for n in range(len(ids))], FIELDS))
    expected = [image_id for image_id, fields in zip(ids, FIELDS, strict=True) if matches(condition, image_id, fields)]
    assert all_ids(store, "c", condition) == expected
    assert list(store.matrix("c", condition).ids) == expected
    answer = store.nearest("c", NearestQuery(np.array([[1, 0]], np.float32), 10, condition))
    assert [hit.image_id for hit in answer.results[0].hits] == expected  # nearer to [1, 0] the smaller n is
    assert answer.candidates == len(expected)


@pytest.mark.parametrize("modulo", [10, 100, 250])
def test_a_selective_filter_is_exact_and_full(store: VectorStore, modulo: int) -> None:
    given = random_items(1000, dim=16)
    fields: list[dict[str, FieldValue]] = [{"bucket": n % modulo} for n in range(1000)]
    store.create_collection("c", 16, "")
    store.upsert("c", ItemSet(given.vectors, fields))
    queries = np.random.default_rng(5).normal(size=(5, 16)).astype(np.float32)
    answer = store.nearest("c", NearestQuery(queries, 10, In("bucket", (3,))))
    kept = np.arange(3, 1000, modulo)
    unit = given.vectors.matrix[kept] / np.linalg.norm(given.vectors.matrix[kept], axis=1, keepdims=True)
    for query, hits in zip(queries, answer.results, strict=True):
        best = kept[np.argsort(-(unit @ query), kind="stable")][:10]
        assert [hit.image_id for hit in hits.hits] == [given.ids[row] for row in best]
    assert answer.exact


def test_ties_are_broken_by_id_and_lengths_do_not_matter(store: VectorStore) -> None:
    store.create_collection("c", 3, "")
    store.upsert("c", items(["d", "b", "c", "a"], [[1, 2, 2], [2, 4, 4], [10, 20, 20], [-1, -2, -2]]))
    hits = store.nearest("c", NearestQuery(np.array([[3, 6, 6]], np.float32), 4)).results[0].hits
    assert [(hit.image_id, hit.score) for hit in hits] == [("b", 1.0), ("c", 1.0), ("d", 1.0), ("a", -1.0)]


def test_excluded_min_score_vectors_and_fields(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    store.upsert("c", items(["a", "b", "c"], [[1, 0], [3, 4], [-1, 0]], [{"f": "x"}, {"f": "y"}, {}]))
    query = NearestQuery(
        np.array([[1, 0], [0, 1]], np.float32),
        3,
        min_score=0.0,
        excluded=(frozenset({"a"}), frozenset()),
        with_vectors=True,
        with_fields=True,
    )
    first, second = store.nearest("c", query).results
    assert [(hit.image_id, hit.score, hit.fields) for hit in first.hits] == [("b", 0.6, {"f": "y"})]
    assert [hit.image_id for hit in second.hits] == ["b", "a", "c"]
    assert second.vectors is not None
    assert second.vectors.matrix.tolist() == [[3, 4], [1, 0], [-1, 0]]


@pytest.mark.parametrize("strategy", list(ExampleStrategy))
def test_examples(store: VectorStore, strategy: ExampleStrategy) -> None:
    store.create_collection("c", 2, "")
    store.upsert("c", items(["east", "north", "west"], [[1, 0], [0, 1], [-1, 0]]))
    near, far = np.array([[1, 0.1]], np.float32), np.array([[-1, 0.1]], np.float32)
    one = np.ones(1)
    query = NearestQuery(ExampleVectors(near, far, one, one, strategy), 3, excluded=(frozenset({"north"}),))
    assert [hit.image_id for hit in store.nearest("c", query).results[0].hits] == ["east", "west"]


def test_near_duplicates_of_what_a_filter_keeps(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    store.upsert("c", items(["a", "b", "c"], [[1, 0], [2, 0.01], [1, 0]], [{"k": 1}, {"k": 1}, {}]))
    reports = find_near_duplicates(store.matrix("c", Exists("k")), DuplicateSpec(0.99))
    groups = [group for report in reports for group in report.groups]
    assert [[member.image_id for member in group.members] for group in groups] == [["a", "b"]]


def test_contents_of_a_matrix_are_numbered_by_their_texts(store: VectorStore) -> None:
    store.create_collection("c", 2, "")
    fields: list[dict[str, FieldValue]] = [{"h": "x"}, {"h": "y"}, {}, {"h": ""}, {"h": 1}, {"h": "x", "k": 1}]
    store.upsert("c", items(list("abcdef"), [[1, n] for n in range(6)], fields))
    contents = store.matrix("c", content_field="h").contents
    assert contents is not None
    assert contents[0] == contents[5] >= 0
    assert contents[1] not in (contents[0], -1)
    assert contents[2:5].tolist() == [-1, -1, -1]
    assert store.matrix("c").contents is None
    some = store.matrix("c", Exists("k"), "h").contents
    assert some is not None
    assert [number >= 0 for number in some] == [True]


# ---- the server adapter beyond the suite ----


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[MilvusServer]:
    """The server adapter with a graph index, always on Milvus Lite."""
    path = str(tmp_path / "milvus.db")
    store = MilvusServer(path, index=IndexSpec("HNSW", {"M": 8, "efConstruction": 40}, {"ef": 32}))
    yield store
    store.close()
    server_manager_instance.release_server(path)


def test_a_graph_index_says_that_it_is_approximate_and_exact_is_exact(graph: MilvusServer) -> None:
    given = random_items(800, dim=16)
    graph.create_collection("c", 16, "")
    graph.upsert("c", ItemSet(given.vectors, [{"n": n} for n in range(800)]))
    queries = np.random.default_rng(2).normal(size=(4, 16)).astype(np.float32)
    rare = Range("n", lt=8)
    answer = graph.nearest("c", NearestQuery(queries, 5, rare))
    assert (answer.exact, answer.index, answer.candidates) == (False, "HNSW", 8)
    truth = graph.nearest("c", NearestQuery(queries, 5, rare, exact=True))
    assert truth.exact
    unit = given.vectors.matrix[:8] / np.linalg.norm(given.vectors.matrix[:8], axis=1, keepdims=True)
    for query, hits in zip(queries, truth.results, strict=True):
        assert [hit.image_id for hit in hits.hits] == [given.ids[row] for row in np.argsort(-(unit @ query))[:5]]


def test_generations_never_run_backwards_over_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "milvus.db")
    first = MilvusServer(path)
    first.create_collection("c", 8, "m")
    last = max(first.upsert("c", random_items(3, seed=seed)) for seed in range(3))
    first.close()
    second = MilvusServer(path)
    assert second.get_collection("c").generation >= last
    assert second.upsert("c", random_items(3, seed=9)) > last
    second.close()
    server_manager_instance.release_server(path)


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    store = MilvusServer("http://127.0.0.1:1", options={"timeout": 0.5})
    with pytest.raises(BackendUnavailable) as caught:
        store.open()
    assert caught.value.backend == "milvus"


# ---- what only durable stores promise ----


@pytest.fixture
def lite(tmp_path: Path) -> Make:
    return lambda: ResidentVectors(MilvusLiteJournal(tmp_path / "vectors", flush_rows=64))


def test_everything_is_there_after_a_restart(lite: Make) -> None:
    first = lite()
    first.create_collection("c", 8, "model")
    first.create_collection("empty", 3, "")
    first.upsert("c", random_items(100))
    first.upsert("c", random_items(10, seed=9))
    generation = first.delete("c", ["i0099"]).generation
    expected = [(list(b.ids), b.vectors.matrix.tolist()) for b in first.scan("c").blocks]
    first.close()
    second = lite()
    assert [c.name for c in second.list_collections()] == ["c", "empty"]
    again = second.get_collection("c")
    assert (again.dim, again.model_id, again.items, again.generation) == (8, "model", 99, generation)
    assert [(list(b.ids), b.vectors.matrix.tolist()) for b in second.scan("c").blocks] == expected
    second.close()


def test_ids_that_need_escaping_survive_a_restart_at_every_page_end(tmp_path: Path) -> None:
    first = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    first.create_collection("c", 2, "")
    first.upsert("c", items(TRAPS, [[1, n] for n in range(len(TRAPS))]))
    first.close()
    second = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors", page_rows=1))
    assert all_ids(second, "c") == sorted(TRAPS)
    second.close()


@pytest.mark.parametrize("left", ["an empty folder", "data without a schema", "a schema without data"])
def test_a_kill_while_a_collection_is_made_or_removed_leaves_nothing_behind(
    lite: Make, tmp_path: Path, left: str
) -> None:
    first = lite()
    first.create_collection("c", 8, "")
    first.create_collection("half", 8, "")
    for name in ("c", "half"):
        first.upsert(name, random_items(100))
    first.close()
    half = tmp_path / "vectors" / "milvus.db" / "collections" / "half"
    assert half.is_dir()
    if left == "an empty folder":
        shutil.rmtree(half)
        half.mkdir()
    elif left == "data without a schema":
        (half / "schema.json").unlink()
    else:
        shutil.rmtree(half / "partitions")
    (tmp_path / "vectors" / "UNFINISHED").write_text("half")
    second = lite()
    assert [found.name for found in second.list_collections()] == ["c"]
    assert second.get_collection("c").items == 100
    assert second.create_collection("half", 4, "other").items == 0
    second.close()


def test_a_second_opener_is_told_who_has_the_store(lite: Make, capfd: pytest.CaptureFixture[str]) -> None:
    first, second = lite(), lite()
    first.open()
    with pytest.raises(WrongState, match="in use by another process") as caught:
        second.open()
    assert caught.value.reason == "IN_USE"
    assert caught.value.fix
    first.close()
    second.open()
    second.close()
    with pytest.raises(WrongState):
        first.list_collections()
    assert capfd.readouterr() == ("", "")


def test_more_than_fits_into_memory_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    journal = MilvusLiteJournal(tmp_path / "vectors")
    store = ResidentVectors(journal, max_resident_bytes=100 * (4 * 8 + 5))
    store.create_collection("c", 8, "")
    store.upsert("c", random_items(90))
    with pytest.raises(WrongState, match="max_resident_bytes") as caught:
        store.upsert("c", random_items(20, seed=1, prefix="new"))
    assert caught.value.reason == "RESIDENT_MEMORY_FULL"
    assert "Milvus" in caught.value.fix
    assert "projection" in caught.value.fix
    assert store.get_collection("c").items == 90
    store.upsert("c", random_items(10, seed=2))  # replacing makes room by compaction
    store.close()
    with pytest.raises(WrongState, match="max_resident_bytes"):
        ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"), max_resident_bytes=1000).open()


def test_compaction_keeps_what_lives(store: VectorStore) -> None:
    store.create_collection("c", 8, "")
    for seed in range(6):
        store.upsert("c", random_items(1000, seed=seed))
    assert store.get_collection("c").items == 1000
    last = random_items(1000, seed=5)
    assert np.array_equal(store.fetch("c", last.ids).items.vectors.matrix, last.vectors.matrix)
    assert all_ids(store, "c") == list(last.ids)
