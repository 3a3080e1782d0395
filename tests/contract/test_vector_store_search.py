# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every VectorStore: searches and near-duplicates."""

from __future__ import annotations

import numpy as np
import pytest
from gandt_vectorsearch.searches import ByIds, ByVectors, Searches
from gandt_vectorsearch.service import METRICS, VectorSearch

from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.system_clock import SystemClock
from gandt.domain.fields import FieldValue
from gandt.domain.filters import Exists, In
from gandt.domain.near_duplicates import DuplicateSpec, find_near_duplicates
from gandt.domain.search_records import ExampleStrategy, ExampleVectors, ItemSet, NearestQuery, SearchOptions
from gandt.ports.vector_store import VectorStore
from tests.contract.vector_items import items, random_items


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


def test_groups_are_filled_however_far_their_members_are(store: VectorStore) -> None:
    """Nearest are twenty of group near; the others lie behind, and a member without the field belongs to none."""
    store.create_collection("c", 2, "")
    angles = np.linspace(0.01, 1.5, 30)
    names = ["near"] * 20 + [f"far{n // 3}" for n in range(9)]
    groups: list[dict[str, FieldValue]] = [{"g": name} for name in names]
    groups.append({})
    ids = [f"i{n:02d}" for n in range(30)]
    store.upsert("c", items(ids, np.stack([np.cos(angles), np.sin(angles)], 1), groups))
    meter = PrometheusMeter(METRICS)
    searches = Searches(store, VectorSearch(store, meter), meter, SystemClock())
    east = ByVectors(np.array([[1, 0], [0, 1]], np.float32))
    answer = searches.search("c", east, SearchOptions(k=4, group_by="g", with_fields=True))
    first, second = ([hit.image_id for hit in hits.hits] for hits in answer.results)
    assert first == ["i00", "i20", "i23", "i26"]
    assert second == ["i29", "i28", "i25", "i22"]
    assert answer.exact
    pairs = searches.search("c", east, SearchOptions(k=3, offset=2, group_by="g", group_size=2))
    assert [hit.image_id for hit in pairs.results[0].hits] == ["i20", "i21", "i23"]
    only = searches.search("c", ByIds(("i00",)), SearchOptions(k=2, group_by="g", condition=In("g", ("far0", "far2"))))
    assert [hit.image_id for hit in only.results[0].hits] == ["i20", "i26"]
