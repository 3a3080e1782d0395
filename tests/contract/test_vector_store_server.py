# SPDX-License-Identifier: GPL-3.0-or-later
"""The server adapter beyond the suite: indexes, generations, writers, partitions, what searches see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest

from gandt.adapters import milvus_client, milvus_session
from gandt.adapters.milvus_index import IndexSpec
from gandt.adapters.milvus_server import Connection, MilvusServer, Partitions
from gandt.domain.errors import BackendUnavailable, InvalidInput, WrongState
from gandt.domain.fields import FieldValue
from gandt.domain.filters import And, In, Not, Range
from gandt.domain.search_records import MAX_RESULTS, ItemSet, NearestQuery
from tests.contract.cluster_rules import ClusterRules
from tests.contract.vector_items import all_ids, items, random_items

EAST = np.array([[1, 0]], np.float32)


@pytest.fixture(params=["lite", "cluster-rules"])
def connection(request: pytest.FixtureRequest, lite_path: str) -> Connection:
    """Milvus Lite as it is, and under a cluster's rules."""
    return Connection(lite_path) if request.param == "lite" else rules(lite_path)


def rules(path: str, consistency: str = "Strong", **limits: int) -> Connection:
    def open_(uri: str, token: str, options: dict[str, Any]) -> ClusterRules:
        return ClusterRules(milvus_session.connect(uri, token, options), **limits)

    return Connection(path, consistency=consistency, open=open_)


@pytest.fixture
def graph(connection: Connection) -> Iterator[MilvusServer]:
    """The server adapter with a graph index."""
    store = MilvusServer(connection, IndexSpec("HNSW", {"M": 8, "efConstruction": 40}, {"ef": 32}))
    yield store
    store.close()


def client_of(store: MilvusServer) -> Any:
    return store._session._client  # what another program would do to the server


def test_a_graph_index_says_that_it_is_approximate_and_exact_is_exact(graph: MilvusServer) -> None:
    given = random_items(800, dim=16)
    graph.create_collection("c", 16, "")
    graph.upsert("c", ItemSet(given.vectors, [{"n": n} for n in range(800)]))
    queries = np.random.default_rng(2).normal(size=(4, 16)).astype(np.float32)
    rare = Range("n", lt=8)
    answer = graph.nearest("c", NearestQuery(queries, 5, rare))
    assert (answer.exact, answer.index, answer.candidates) == (False, "HNSW", 8)
    assert len(graph.nearest("c", NearestQuery(queries, 200)).results[0].hits) == 200  # more than ef
    truth = graph.nearest("c", NearestQuery(queries, 5, rare, exact=True))
    assert truth.exact
    unit = given.vectors.matrix[:8] / np.linalg.norm(given.vectors.matrix[:8], axis=1, keepdims=True)
    for query, hits in zip(queries, truth.results, strict=True):
        assert [hit.image_id for hit in hits.hits] == [given.ids[row] for row in np.argsort(-(unit @ query))[:5]]


@pytest.mark.parametrize(
    ("index", "parameters"),
    [
        ("HNSW", {"M": 8, "efConstruction": 40}),
        ("HNSW_SQ", {"M": 8, "efConstruction": 40}),
        ("IVF_FLAT", {"nlist": 7}),
        ("IVF_SQ8", {"nlist": 7}),
        ("FLAT", {}),
        ("AUTOINDEX", {}),
    ],
)
def test_build_parameters_reach_the_index(connection: Connection, index: str, parameters: dict[str, int]) -> None:
    store = MilvusServer(connection, IndexSpec(index, parameters))
    store.create_collection("c", 8, "")
    store.upsert("c", random_items(50))
    described = client_of(store).describe_index("c", "vector", timeout=9)
    built = {**described, **described.get("params", {})}
    assert {key: int(built[key]) for key in parameters} == parameters
    store.close()


def test_the_built_index_has_the_parameters(lite_path: str) -> None:
    """Not only does Lite repeat them: faiss has as many lists as asked."""
    store = MilvusServer(Connection(lite_path), IndexSpec("IVF_FLAT", {"nlist": 7}))
    store.create_collection("c", 8, "")
    store.upsert("c", random_items(600))
    client_of(store).flush("c", timeout=9)
    client_of(store).release_collection("c", timeout=9)
    client_of(store).load_collection("c", timeout=9)  # builds the index before it returns
    store.close()
    built = [faiss.read_index(str(path)) for path in Path(lite_path).rglob("*.ivf_flat.idx")]
    assert [index.nlist for index in built] == [7]  # type: ignore[attr-defined]


def test_a_server_that_drops_a_parameter_is_refused_and_leaves_nothing(lite_path: str) -> None:
    class Forgetful(ClusterRules):
        def describe_index(self, name: str, index_name: str, **options: Any) -> dict[str, Any] | None:
            found = super().describe_index(name, index_name, **options)
            return {key: value for key, value in (found or {}).items() if key != "M"}

    at = Connection(lite_path, open=lambda *args: Forgetful(milvus_session.connect(*args)))
    store = MilvusServer(at, IndexSpec("HNSW", {"M": 8, "efConstruction": 40}))
    with pytest.raises(WrongState, match="M nothing instead of 8") as caught:
        store.create_collection("c", 8, "")
    assert caught.value.reason == "INDEX_DIFFERS"
    assert store.list_collections() == []
    store.close()


@pytest.mark.parametrize("index", ["DISKANN", "IVF_RABITQ", "IVF_PQ", "SCANN", "GPU_CAGRA"])
def test_an_index_that_lite_would_take_and_fail_on_is_refused_before(lite_path: str, index: str) -> None:
    with pytest.raises(InvalidInput, match=index) as caught:
        MilvusServer(Connection(lite_path), IndexSpec(index))
    assert caught.value.reason == "INDEX_NOT_SUPPORTED"
    if index != "GPU_CAGRA":
        MilvusServer(Connection("http://milvus:19530"), IndexSpec(index))


def test_a_collection_answers_by_the_index_it_has(lite_path: str) -> None:
    first = MilvusServer(Connection(lite_path), IndexSpec("HNSW"))
    first.create_collection("c", 2, "")
    first.upsert("c", items(["a", "b"], [[1, 0], [0, 1]]))
    first.close()
    second = MilvusServer(Connection(lite_path), IndexSpec("FLAT"))
    answer = second.nearest("c", NearestQuery(EAST, 1))
    assert (answer.index, answer.exact) == ("HNSW", False)
    second.close()


def test_generations_never_run_backwards_over_a_restart(connection: Connection) -> None:
    first = MilvusServer(connection)
    first.create_collection("c", 8, "m")
    last = max(first.upsert("c", random_items(3, seed=seed)) for seed in range(3))
    first.close()
    second = MilvusServer(connection)
    assert second.get_collection("c").generation >= last
    assert second.upsert("c", random_items(3, seed=9)) > last
    second.close()


def test_a_second_writer_is_found_out(connection: Connection) -> None:
    first, second = MilvusServer(connection), MilvusServer(connection)
    first.create_collection("c", 8, "m")
    first.upsert("c", random_items(3))
    second.upsert("c", random_items(3, prefix="s"))
    for seed in range(999):  # the generations that it has noted
        first.upsert("c", random_items(1, seed=seed))
    first.upsert("c", random_items(1))
    with pytest.raises(WrongState, match="another process writes") as caught:
        first.upsert("c", random_items(1))
    assert caught.value.reason == "OTHER_WRITER"
    second.upsert("c", random_items(1, prefix="t"))
    first.close()
    second.close()


def test_a_bounded_search_may_miss_the_last_writes_and_says_that_it_is_not_exact(lite_path: str) -> None:
    store = MilvusServer(rules(lite_path, consistency="Bounded"))
    store.create_collection("c", 2, "")
    store.upsert("c", items(["a"], [[1, 0]]))
    client_of(store).settle()
    store.upsert("c", items(["b"], [[2, 0]]))
    bounded = store.nearest("c", NearestQuery(EAST, 5))
    assert [hit.image_id for hit in bounded.results[0].hits] == ["a"]
    assert not bounded.exact
    strong = store.nearest("c", NearestQuery(EAST, 5, exact=True))
    assert [hit.image_id for hit in strong.results[0].hits] == ["a", "b"]
    assert strong.exact
    assert all_ids(store, "c") == ["a", "b"]
    store.close()


def test_partitions_change_no_answer(connection: Connection) -> None:
    store = MilvusServer(connection, partitions=Partitions("split", 4))
    store.create_collection("c", 2, "")
    fields: list[dict[str, FieldValue]] = [{"split": "train"}, {"split": 'te"st'}, {"split": 3}, {}]
    store.upsert("c", items(["a", "b", "c", "d"], [[1, n] for n in range(4)], fields))
    store.upsert("c", items(["a"], [[1, 0]], [{"split": 'te"st'}]))  # moves
    assert store.get_collection("c").items == 4
    for condition, expected in (
        (In("split", ('te"st',)), ["a", "b"]),
        (In("split", ("train", 'te"st')), ["a", "b"]),
        (And((In("split", ("train",)), In("split", ('te"st',)))), []),
        (Not(In("split", ('te"st',))), ["c", "d"]),
        (In("split", (3,)), ["c"]),
    ):
        assert all_ids(store, "c", condition) == expected
        hits = store.nearest("c", NearestQuery(EAST, 5, condition)).results[0].hits
        assert [hit.image_id for hit in hits] == expected
    assert list(store.delete("c", ["a", "d"]).ids) == ["a", "d"]
    assert all_ids(store, "c") == ["b", "c"]
    store.close()


def test_all_hits_that_are_allowed_come_although_some_are_left_out(connection: Connection) -> None:
    store = MilvusServer(connection)
    store.create_collection("c", 2, "")
    store.upsert("c", items(["a", "b", "c"], [[1, 0], [1, 1], [0, 1]]))
    query = NearestQuery(np.concatenate([EAST, EAST]), MAX_RESULTS, excluded=(frozenset({"a"}), frozenset()))
    first, second = store.nearest("c", query).results
    assert [hit.image_id for hit in first.hits] == ["b", "c"]
    assert [hit.image_id for hit in second.hits] == ["a", "b", "c"]
    store.close()


def test_a_server_that_does_not_answer_is_unavailable_and_its_password_is_not_shown() -> None:
    store = MilvusServer(Connection("http://root:secret@127.0.0.1:1", options={"timeout": 0.5}))
    with pytest.raises(BackendUnavailable) as caught:
        store.open()
    assert caught.value.backend == "milvus"
    assert "127.0.0.1:1" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_what_a_server_finds_too_large_goes_in_smaller_parts(lite_path: str) -> None:
    store = MilvusServer(rules(lite_path, message_bytes=20_000, output_bytes=10_000))
    store.create_collection("c", 64, "")
    given = random_items(300, dim=64)
    store.upsert("c", given)
    assert store.get_collection("c").items == 300
    assert store.fetch("c", given.ids).items.ids == list(given.ids)
    assert all_ids(store, "c") == list(given.ids)
    answer = store.nearest("c", NearestQuery(given.vectors.matrix[:200], 1))
    assert [hits.hits[0].image_id for hits in answer.results] == list(given.ids[:200])
    store.close()


class Recorder:
    """A client that notes the sizes of what it is given."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def upsert(self, name: str, rows: list[dict[str, Any]]) -> None:
        fields = sum(len(text.encode()) for row in rows for text in row["fields"].values())
        self.sizes.append((len(rows), fields + sum(row["vector"].nbytes for row in rows)))


def test_no_call_takes_more_than_1000_rows_or_32_mebibytes() -> None:
    client = Recorder()
    wide = random_items(300, dim=32_768)
    texts: dict[str, FieldValue] = {f"f{n}": "x" * 4000 for n in range(16)}
    milvus_client.upsert(client, "c", wide, 1)
    milvus_client.upsert(client, "c", ItemSet(random_items(1500).vectors, [texts] * 1500), 2)
    milvus_client.upsert(client, "c", random_items(2500), 3)
    assert max(rows for rows, _ in client.sizes) == 1000
    assert max(size for _, size in client.sizes) <= 32 << 20
    assert sum(rows for rows, _ in client.sizes) == 300 + 1500 + 2500
