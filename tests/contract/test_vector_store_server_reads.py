# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads of the server adapter: what they load, at which moment they are, and how much memory they take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gandt.adapters import milvus_client, milvus_conditions, milvus_session
from gandt.adapters.milvus_index import IndexSpec
from gandt.adapters.milvus_server import Connection, MilvusServer
from gandt.domain.errors import Overloaded, WrongState
from gandt.domain.filters import Ids
from gandt.domain.search_records import MAX_RESULTS, ItemSet, NearestQuery
from tests.contract.cluster_rules import ClusterRules, Page
from tests.contract.vector_items import items, random_items

EAST = np.array([[1, 0]], np.float32)


@pytest.fixture
def clients() -> list[ClusterRules]:
    """The clients that were made."""
    return []


@pytest.fixture
def connection(lite_path: str, clients: list[ClusterRules]) -> Connection:
    def open_(uri: str, token: str, options: dict[str, Any]) -> ClusterRules:
        clients.append(ClusterRules(milvus_session.connect(uri, token, options)))
        return clients[-1]

    return Connection(lite_path, open=open_)


def test_a_list_loads_nothing_and_a_collection_without_index_stands_in_nobodys_way(
    connection: Connection, clients: list[ClusterRules]
) -> None:
    first = MilvusServer(connection)
    for name in ("good", "bare"):
        first.create_collection(name, 8, "m", f"{name}_live")
        first.upsert(name, random_items(3))
    outside = clients[0]._client  # what another program does to the server
    outside.release_collection("bare")
    outside.drop_index("bare", "vector")
    first.close()

    store = MilvusServer(connection)
    found = store.list_collections()
    assert [(one.name, one.dim, one.model_id, one.items, one.aliases) for one in found] == [
        ("bare", 8, "m", 3, ("bare_live",)),
        ("good", 8, "m", 3, ("good_live",)),
    ]
    assert "load_collection" not in clients[-1].calls
    with pytest.raises(WrongState, match="bare has no index") as caught:
        store.nearest("bare", NearestQuery(random_items(1).vectors.matrix, 1))
    assert caught.value.reason == "INDEX_MISSING"
    assert len(store.nearest("good", NearestQuery(random_items(1).vectors.matrix, 5)).results[0].hits) == 3
    assert store.delete_collection("bare") == 3
    assert [one.name for one in store.list_collections()] == ["good"]
    store.close()


class Pages:
    """A client that answers each query with an empty page of one moment, and notes what it was asked."""

    def __init__(self) -> None:
        self.moments: list[int | None] = []

    def query(self, name: str, **options: Any) -> Page:
        self.moments.append(options.get("guarantee_timestamp"))
        page = Page()
        page.extra = {"iterator_session_ts": 40 + len(self.moments)}
        return page


def test_all_parts_of_a_long_condition_are_read_at_the_moment_of_the_first_page() -> None:
    client = Pages()
    moment: dict[str, Any] = {}
    for part in (Ids(("a",)), Ids(("b",)), Ids(("c",))):
        assert list(milvus_client.pages(client, "c", ["id"], 10, part, moment=moment)) == []
    assert client.moments == [None, 41, 41]


def test_a_scan_in_parts_loses_nothing_when_pages_are_short(lite_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Short(ClusterRules):
        """Gives two rows less than a page may hold, as a cluster that cannot tell their order yet."""

        def query(self, name: str, **options: Any) -> Any:
            if options.get("iterator"):
                asked.append(options["limit"])
                options["limit"] = max(1, options["limit"] - 2)
            return super().query(name, **options)

    def short(uri: str, token: str, options: dict[str, Any]) -> ClusterRules:
        return Short(milvus_session.connect(uri, token, options))

    in_parts = milvus_conditions.in_parts
    monkeypatch.setattr(milvus_conditions, "in_parts", lambda condition: in_parts(condition, 400))
    store = MilvusServer(Connection(lite_path, open=short))
    store.create_collection("c", 8, "")
    given = random_items(100)
    store.upsert("c", given)
    wanted = given.ids[::2]
    condition = Ids((*wanted, "nowhere"))
    assert len(milvus_conditions.in_parts(condition)) > 1
    for after_id in ("", wanted[20]):
        scan = store.scan("c", condition, after_id, block_rows=7)
        seen = [image_id for block in scan.blocks for image_id in block.ids]
        assert seen == [image_id for image_id in wanted if image_id > after_id]
        assert scan.total == len(seen)
    assert [image_id for block in store.scan("c", block_rows=7).blocks for image_id in block.ids] == list(given.ids)
    assert store.matrix("c", condition).ids == list(wanted)
    assert len(asked) > 100 / 5
    store.close()


@pytest.fixture
def interrupted(lite_path: str) -> Iterator[tuple[MilvusServer, list[Callable[[], object]]]]:
    """A store, and what happens on its server between an answer to a search and its arrival."""
    meanwhile: list[Callable[[], object]] = []

    class Interrupted(ClusterRules):
        def search(self, name: str, **options: Any) -> list[list[Any]]:
            found = super().search(name, **options)
            while meanwhile:
                meanwhile.pop()()
            return found

    store = MilvusServer(Connection(lite_path, open=lambda *args: Interrupted(milvus_session.connect(*args))))
    yield store, meanwhile
    store.close()


def test_an_answer_never_says_a_generation_newer_than_its_rows(
    interrupted: tuple[MilvusServer, list[Callable[[], object]]],
) -> None:
    store, meanwhile = interrupted
    store.create_collection("c", 2, "")
    before = store.upsert("c", items(["a"], [[1, 0]]))
    meanwhile.append(lambda: store.upsert("c", items(["b"], [[1, 0]])))
    answer = store.nearest("c", NearestQuery(EAST, 5))
    assert ([hit.image_id for hit in answer.results[0].hits], answer.generation) == (["a"], before)
    again = store.nearest("c", NearestQuery(EAST, 5))
    assert ([hit.image_id for hit in again.results[0].hits], again.generation) == (["a", "b"], before + 1)


def test_more_hits_than_a_server_gives_are_compared_here_or_not_exact(lite_path: str) -> None:
    count = MAX_RESULTS + 16
    angles = np.linspace(0, 1, count)
    given = items([f"i{n:05d}" for n in range(count)], np.stack([np.cos(angles), np.sin(angles)], 1).tolist())
    roomy = MilvusServer(Connection(lite_path))
    roomy.create_collection("c", 2, "")
    roomy.upsert("c", given)
    answer = roomy.nearest("c", NearestQuery(EAST, 2 * MAX_RESULTS))
    assert (len(answer.results[0].hits), answer.exact) == (count, True)
    roomy.close()
    narrow = MilvusServer(Connection(lite_path), max_resident_bytes=1000)
    answer = narrow.nearest("c", NearestQuery(EAST, 2 * MAX_RESULTS))
    assert (len(answer.results[0].hits), answer.exact) == (MAX_RESULTS, False)
    assert narrow.nearest("c", NearestQuery(EAST, MAX_RESULTS)).exact
    narrow.close()


def test_readers_share_the_memory_for_vectors(lite_path: str) -> None:
    given = random_items(100)
    store = MilvusServer(Connection(lite_path), IndexSpec("HNSW"), max_resident_bytes=100 * 8 * 4)
    store.create_collection("c", 8, "")
    store.upsert("c", ItemSet(given.vectors, [{"n": n} for n in range(100)]))
    exact = NearestQuery(given.vectors.matrix[:1], 3, exact=True, with_fields=True)
    hits = store.nearest("c", exact).results[0].hits
    assert hits[0].fields == {"n": 0}
    view = store.matrix("c")
    np.testing.assert_array_equal(view.take(np.arange(100)), given.vectors.matrix)
    with pytest.raises(Overloaded, match="other calls hold 3,200 of max_resident_bytes 3,200") as caught:
        store.nearest("c", exact)
    assert caught.value.reason == "RESIDENT_MEMORY_BUSY"
    del view
    assert store.nearest("c", exact).results[0].hits == hits
    store.upsert("c", random_items(1, prefix="z"))
    with pytest.raises(WrongState, match="101 vectors of collection c do not fit") as full:
        store.matrix("c")
    assert full.value.reason == "RESIDENT_MEMORY_FULL"
    store.close()
