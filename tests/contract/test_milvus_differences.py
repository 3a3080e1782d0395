# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Milvus Lite and a cluster differ, one test a row of the table in docs/explanation/milvus-differences.md.

What our service does is the same on the memory store, the embedded one, the server adapter on Milvus Lite (or on
GANDT_TEST_MILVUS_URI) and the server adapter under a cluster's rules.
"""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from gandt_vectorsearch.searches import ByIds, ByVectors, Searches
from gandt_vectorsearch.service import METRICS, VectorSearch

from gandt.adapters.milvus_server import MilvusServer
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.system_clock import SystemClock
from gandt.domain.errors import InvalidInput
from gandt.domain.fields import FieldValue
from gandt.domain.filters import And, Exists, Filter, In, Not, Range, compile_milvus
from gandt.domain.search_records import ItemSet, NearestQuery, SearchOptions
from gandt.domain.vectors import VectorSet
from gandt.ports.vector_store import VectorStore
from gandt.wire import types
from tests.contract.vector_items import all_ids, items, random_items

EAST = np.array([[1, 0]], np.float32)


@pytest.fixture
def filled(store: VectorStore) -> VectorStore:
    """Collection c: three items of different lengths and fields."""
    store.create_collection("c", 2, "m")
    fields: list[dict[str, FieldValue]] = [{"n": 1}, {"n": 2, "text": "50 %, {x}"}, {}]
    store.upsert("c", items(["a", "b", "d"], [[2, 0], [3, 4], [0, 5]], fields))
    return store


@pytest.fixture
def service(filled: VectorStore) -> VectorSearch:
    return VectorSearch(filled, PrometheusMeter(METRICS))


@pytest.fixture
def searches(filled: VectorStore, service: VectorSearch) -> Searches:
    return Searches(filled, service, PrometheusMeter(METRICS), SystemClock())


def client_of(store: VectorStore) -> Any:
    if not isinstance(store, MilvusServer):
        pytest.skip("what others do to a server cannot happen to a store of our own")
    return store._session._client  # what another program would do


def test_insert_of_an_existing_primary_key(filled: VectorStore) -> None:
    filled.upsert("c", items(["a"], [[0, 1]]))
    filled.upsert("c", items(["a"], [[0, 7]]))
    assert filled.get_collection("c").items == 3
    assert all_ids(filled, "c") == ["a", "b", "d"]
    assert filled.fetch("c", ["a"]).items.vectors.matrix.tolist() == [[0, 7]]


def test_index_types(filled: VectorStore) -> None:
    """Others than the backend has are refused at the start: test_vector_store_server.py."""
    answer = filled.nearest("c", NearestQuery(EAST, 1))
    assert answer.index in ("resident", "FLAT")
    assert answer.exact


def test_vectors_of_other_types(service: VectorSearch) -> None:
    halves = np.array([[0.5, 0.25]], np.float16)
    block = types.vector_set(types.vector_block(VectorSet(["h"], halves)))
    list(service.upsert("c", "m", [ItemSet(block)]))
    back = service.fetch("c", ["h"]).items.vectors.matrix
    assert back.dtype == np.float32
    assert back.tolist() == [[0.5, 0.25]]


def test_metric_at_search(filled: VectorStore) -> None:
    hits = filled.nearest("c", NearestQuery(EAST * 9, 3)).results[0].hits
    assert [(hit.image_id, round(hit.score, 5)) for hit in hits] == [("a", 1.0), ("b", 0.6), ("d", 0.0)]


def test_search_without_output_fields(searches: Searches) -> None:
    bare = searches.search("c", ByVectors(EAST), SearchOptions(k=2)).results[0]
    assert ([hit.fields for hit in bare.hits], bare.vectors) == ([{}, {}], None)
    asked = searches.search("c", ByVectors(EAST), SearchOptions(k=2, with_fields=True, with_vectors=True)).results[0]
    assert [dict(hit.fields) for hit in asked.hits] == [{"n": 1}, {"n": 2, "text": "50 %, {x}"}]
    assert asked.vectors is not None
    assert asked.vectors.matrix.tolist() == [[2, 0], [3, 4]]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_vector(service: VectorSearch, searches: Searches, bad: float) -> None:
    (ack,) = service.upsert("c", "m", [items(["bad", "good"], [[bad, 1], [1, 1]])])
    assert [item.image_id for item in ack.rejected] == ["bad"]
    assert service.fetch("c", ["bad", "good"]).missing == ("bad",)
    with pytest.raises(InvalidInput):
        searches.search("c", ByVectors(np.array([[bad, 1]], np.float32)), SearchOptions())


def test_zero_vector(service: VectorSearch, searches: Searches) -> None:
    (ack,) = service.upsert("c", "m", [items(["zero"], [[0, 0]])])
    assert [(item.image_id, item.error.reason) for item in ack.rejected] == [("zero", "BAD_VECTOR")]
    with pytest.raises(InvalidInput):
        searches.search("c", ByVectors(np.zeros((1, 2), np.float32)), SearchOptions())


def test_limits_of_k_queries_and_dim(service: VectorSearch, searches: Searches) -> None:
    """Messages are split: test_vector_store_server.py. All limits through gRPC: test_vectorsearch/test_limits.py."""
    for options in (SearchOptions(k=16_385), SearchOptions(k=2, offset=16_383)):
        with pytest.raises(InvalidInput):
            searches.search("c", ByVectors(EAST), options)
    with pytest.raises(InvalidInput):
        searches.search("c", ByVectors(np.ones((16_385, 2), np.float32)), SearchOptions(k=1))
    with pytest.raises(InvalidInput):
        service.create_collection("b", 32_769, "m")
    assert len(searches.search("c", ByVectors(EAST), SearchOptions(k=16_384)).results[0].hits) == 3


def test_query_with_neither_filter_nor_limit(filled: VectorStore) -> None:
    assert all_ids(filled, "c") == ["a", "b", "d"]
    assert filled.scan("c").total == 3
    assert list(filled.matrix("c").ids) == ["a", "b", "d"]


def test_num_partitions(filled: VectorStore) -> None:
    """With a partition field answers are the same: test_vector_store_server.py. Without one there are none."""
    if isinstance(filled, MilvusServer):
        described = client_of(filled).describe_collection("c", timeout=9)
        assert not any(field.get("is_partition_key") for field in described["fields"])
    assert all_ids(filled, "c", In("n", (1, 2))) == ["a", "b"]


def test_collection_ttl(filled: VectorStore) -> None:
    described = client_of(filled).describe_collection("c", timeout=9)
    assert "collection.ttl.seconds" not in described["properties"]


FILTERS: list[Filter] = [
    In("text", ("50 %, {x}",)),
    Range("n", gte=2),
    Not(Exists("n")),
    And((Exists("text"), Range("n", lt=3))),
]


@pytest.mark.parametrize(
    ("condition", "expected"), list(zip(FILTERS, (["b"], ["b"], ["d"], ["b"]), strict=True)), ids=range(4)
)
def test_modulo_templates_and_random_sample(filled: VectorStore, condition: Filter, expected: list[str]) -> None:
    """Our expressions use none of them; signs of theirs inside a text are text."""
    assert "RANDOM_SAMPLE" not in compile_milvus(condition)
    assert all_ids(filled, "c", condition) == expected


def test_add_collection_field(filled: VectorStore) -> None:
    """New fields need no change of the schema."""
    filled.upsert("c", items(["e"], [[1, 1]], [{"never_seen": True}]))
    assert all_ids(filled, "c", In("never_seen", (True,))) == ["e"]


def test_search_by_ids(searches: Searches) -> None:
    answer = searches.search("c", ByIds(("a", "d")), SearchOptions(k=1))
    assert [hits.hits[0].image_id for hits in answer.results] == ["b", "b"]


def test_load_needed_after_released(filled: VectorStore) -> None:
    client = client_of(filled)
    for use in (
        lambda: filled.nearest("c", NearestQuery(EAST, 1)),
        lambda: filled.fetch("c", ["a"]),
        lambda: all_ids(filled, "c"),
        lambda: filled.upsert("c", items(["a"], [[2, 0]])),
        lambda: filled.delete("c", ["absent"]),
    ):
        client.release_collection("c", timeout=9)
        use()


def test_statistics_after_delete(filled: VectorStore) -> None:
    filled.delete("c", ["b"])
    assert filled.get_collection("c").items == 2
    assert filled.scan("c").total == 2
    assert filled.nearest("c", NearestQuery(EAST, 9)).candidates == 2


def test_read_your_writes(filled: VectorStore) -> None:
    for number in range(20):
        image_id = f"new{number}"
        filled.upsert("c", items([image_id], [[1, 0]]))
        assert filled.fetch("c", [image_id]).missing == ()
        assert image_id in all_ids(filled, "c")
        assert image_id in filled.matrix("c").ids
        hits = filled.nearest("c", NearestQuery(EAST, 99, exact=True)).results[0].hits
        assert image_id in [hit.image_id for hit in hits]
        filled.delete("c", [image_id])
        assert filled.fetch("c", [image_id]).missing == (image_id,)


def test_what_delete_returns(filled: VectorStore) -> None:
    assert filled.delete("c", ["never", "b", "b", "a"]).ids == ("b", "a")
    assert filled.delete("c", ["b"]).ids == ()


def test_consistent_iterator(filled: VectorStore, request: pytest.FixtureRequest) -> None:
    """With writers meanwhile: test_vector_store_scan.py. Lite itself has no snapshots."""
    filled.upsert("c", random_items(40, dim=2, prefix="k"))
    scan = filled.scan("c", block_rows=5)
    blocks = iter(scan.blocks)
    seen = list(next(blocks).ids)
    writer = threading.Thread(target=lambda: filled.upsert("c", random_items(40, dim=2, prefix="z")))
    writer.start()
    writer.join()
    seen += [image_id for block in blocks for image_id in block.ids]
    assert seen == sorted(set(seen))
    if request.node.callspec.params["shared_store"] != "milvus-server":
        assert len(seen) == scan.total == 43


def test_snapshots(filled: VectorStore) -> None:
    """A backup is a scan, which every store can take in again."""
    filled.create_collection("b", 2, "m")
    for block in filled.scan("c", with_fields=True).blocks:
        filled.upsert("b", block)
    copied, given = (next(iter(filled.scan(name, with_fields=True).blocks)) for name in ("b", "c"))
    assert copied.ids == given.ids
    assert copied.vectors.matrix.tobytes() == given.vectors.matrix.tobytes()
    assert list(copied.fields) == list(given.fields)
