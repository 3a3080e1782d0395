# SPDX-License-Identifier: GPL-3.0-or-later
"""Aliases of collections, for every VectorStore."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.errors import AlreadyExists, GandtError, NotFound, WrongState
from gandt.domain.search_records import ItemSet, NearestQuery
from gandt.domain.vectors import VectorSet
from gandt.ports.vector_store import VectorStore
from tests.contract.conftest import NAMES


def one(image_id: str) -> ItemSet:
    return ItemSet(VectorSet([image_id], np.array([[1, 0]], np.float32)))


def ids(store: VectorStore, name: str) -> list[str]:
    return [image_id for block in store.scan(name).blocks for image_id in block.ids]


def test_every_call_takes_an_alias_for_a_name(store: VectorStore) -> None:
    made = store.create_collection("old", 2, "m", alias="live")
    assert made.aliases == ("live",)
    generation = store.upsert("live", one("a"))
    described = store.get_collection("live")
    assert (described.name, described.items, described.generation) == ("old", 1, generation)
    assert described.aliases == ("live",)
    assert list(store.fetch("live", ["a"]).items.ids) == ["a"]
    assert ids(store, "live") == ["a"]
    answer = store.nearest("live", NearestQuery(np.array([[1, 0]], np.float32), 1))
    assert [hit.image_id for hit in answer.results[0].hits] == ["a"]
    assert list(store.matrix("live").ids) == ["a"]
    assert store.delete("live", ["a"]).ids == ("a",)
    assert store.get_collection("old").items == 0
    assert [(found.name, found.aliases) for found in store.list_collections() if found.name in NAMES] == [
        ("old", ("live",))
    ]


def test_creating_again_with_an_alias_switches_it(store: VectorStore) -> None:
    store.create_collection("old", 2, "m", alias="live")
    store.upsert("old", one("a"))
    store.create_collection("new", 2, "m2")
    store.upsert("new", one("b"))
    assert ids(store, "live") == ["a"]
    assert store.create_collection("new", 2, "m2", alias="live").aliases == ("live",)
    assert ids(store, "live") == ["b"]
    assert store.get_collection("old").aliases == ()
    assert store.create_collection("new", 2, "m2").aliases == ("live",)  # no alias leaves them as they are
    assert store.create_collection("new", 2, "m2", alias="also").aliases == ("also", "live")


def test_names_and_aliases_are_kept_apart(store: VectorStore) -> None:
    store.create_collection("old", 2, "m", alias="live")
    store.create_collection("new", 2, "m")
    for name, alias in (("live", ""), ("new", "old"), ("new", "new"), ("third", "third")):
        with pytest.raises(AlreadyExists):
            store.create_collection(name, 2, "m", alias)
    with pytest.raises(AlreadyExists):
        store.create_collection("new", 3, "m", "live")
    assert store.get_collection("live").name == "old"
    with pytest.raises(NotFound):
        store.get_collection("third")


def test_a_collection_goes_with_its_aliases_and_not_by_them(store: VectorStore) -> None:
    store.create_collection("old", 2, "m", alias="live")
    store.upsert("old", one("a"))
    with pytest.raises(WrongState) as caught:
        store.delete_collection("live")
    assert caught.value.reason == "IS_ALIAS"
    assert store.delete_collection("old") == 1
    with pytest.raises(NotFound):
        store.get_collection("live")
    assert store.create_collection("live", 2, "m").items == 0  # the name is free
    store.delete_collection("live")


def test_readers_see_the_old_or_the_new_collection_whole(store: VectorStore) -> None:
    store.create_collection("old", 2, "m", alias="live")
    store.create_collection("new", 2, "m")
    wholes = {}
    for name in ("old", "new"):
        given = [f"{name}{n}" for n in range(50)]
        store.upsert(name, ItemSet(VectorSet(given, np.ones((50, 2), np.float32))))
        wholes[tuple(sorted(given))] = name
    stop, seen = threading.Event(), list[tuple[str, ...]]()

    def read() -> None:
        while not stop.is_set():
            seen.append(tuple(image_id for block in store.scan("live", block_rows=7).blocks for image_id in block.ids))

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(20):
        store.create_collection(("new", "old")[turn % 2], 2, "m", alias="live")
    stop.set()
    reader.join()
    assert seen
    assert set(seen) <= set(wholes)


def test_lite_remembers_aliases(tmp_path: Path) -> None:
    first = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    first.create_collection("old", 2, "m", alias="live")
    first.create_collection("new", 2, "m", alias="live")
    first.create_collection("new", 2, "m", alias="also")
    first.close()
    second = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    assert second.get_collection("live").name == "new"
    assert [found.aliases for found in second.list_collections()] == [("also", "live"), ()]
    second.delete_collection("new")
    second.close()
    third = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    with pytest.raises(NotFound):
        third.get_collection("live")
    assert third.create_collection("live", 2, "m").items == 0
    third.close()


def test_a_deletion_that_is_cut_off_leaves_no_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(*_: object, **__: object) -> None:
        raise OSError("cut off")

    folder = tmp_path / "vectors"
    first = ResidentVectors(MilvusLiteJournal(folder))
    first.create_collection("old", 2, "m", alias="live")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", cut_off)  # inside Lite
        with pytest.raises(GandtError) as caught:
            first.delete_collection("old")
    assert caught.value.reason == "COLLECTION_HALF_DELETED"
    assert json.loads((folder / "milvus.db" / "aliases.json").read_text()) == {}
    first.close()
    second = ResidentVectors(MilvusLiteJournal(folder))
    assert second.list_collections() == []
    assert second.create_collection("live", 2, "m").items == 0
    second.close()
