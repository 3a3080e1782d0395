# SPDX-License-Identifier: GPL-3.0-or-later
"""One suite for every VectorStore: the same calls give the same results. Here: collections, writes, fetching."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.errors import AlreadyExists, NotFound
from gandt.domain.fields import FieldValue
from gandt.domain.search_records import NearestQuery
from gandt.ports.vector_store import VectorStore
from tests.contract.conftest import NAMES
from tests.contract.vector_items import TRAPS, all_ids, items, random_items


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


def test_compaction_keeps_what_lives(store: VectorStore) -> None:
    store.create_collection("c", 8, "")
    for seed in range(6):
        store.upsert("c", random_items(1000, seed=seed))
    assert store.get_collection("c").items == 1000
    last = random_items(1000, seed=5)
    assert np.array_equal(store.fetch("c", last.ids).items.vectors.matrix, last.vectors.matrix)
    assert all_ids(store, "c") == list(last.ids)
