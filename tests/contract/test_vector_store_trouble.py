# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded vector store when its journal fails: what can still be used, and what is never used half."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gandt.adapters.memory_vectors import NoJournal
from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.errors import CorruptData, GandtError, WrongState
from gandt.domain.search_records import ItemSet, NearestQuery
from tests.contract.vector_items import all_ids, random_items


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResidentVectors]:
    made = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    for name in ("c", "other"):
        made.create_collection(name, 8, "m", f"{name}_live")
        made.upsert(name, random_items(50))
    yield made
    made.close()


def failing(*_: object, **__: object) -> None:
    raise PermissionError(13, "Permission denied")


def delete_in_vain(store: ResidentVectors) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", failing)  # Milvus Lite removes a collection by it
        with pytest.raises(WrongState, match="half deleted") as caught:
            store.delete_collection("c")
    assert caught.value.reason == "COLLECTION_HALF_DELETED"


def test_a_half_deleted_collection_is_used_no_more_until_it_is_deleted(store: ResidentVectors) -> None:
    delete_in_vain(store)
    for use in (
        lambda: store.upsert("c", random_items(1)),
        lambda: store.get_collection("c"),
        lambda: store.scan("c"),
    ):
        with pytest.raises(WrongState, match="half deleted") as caught:
            use()
        assert "delete it again" in caught.value.fix
    assert [found.name for found in store.list_collections()] == ["other"]
    assert store.delete_collection("c") == 50
    assert store.create_collection("c", 4, "new").items == 0
    assert len(all_ids(store, "other_live")) == 50


def test_making_another_collection_clears_a_half_deleted_one_away(store: ResidentVectors, tmp_path: Path) -> None:
    delete_in_vain(store)
    store.create_collection("third", 8, "m")
    assert not (tmp_path / "vectors" / "milvus.db" / "collections" / "c").exists()
    assert store.create_collection("c", 8, "m").items == 0
    assert store.upsert("c", random_items(5)) == 1
    store.close()
    again = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    assert [(found.name, found.items) for found in again.list_collections()] == [("c", 5), ("other", 50), ("third", 0)]
    again.close()


def test_a_deletion_that_has_not_begun_leaves_the_collection_as_it_was(store: ResidentVectors, tmp_path: Path) -> None:
    note = tmp_path / "vectors" / "UNFINISHED"
    note.mkdir()  # cannot be written
    with pytest.raises(GandtError) as caught:
        store.delete_collection("c")
    assert caught.value.reason != "COLLECTION_HALF_DELETED"
    note.rmdir()
    store.upsert("c", random_items(10, seed=1, prefix="new"))
    store.create_collection("third", 8, "m")
    assert len(all_ids(store, "c")) == 60
    store.close()
    again = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    assert len(all_ids(again, "c_live")) == 60
    again.close()


@pytest.mark.parametrize("number", [28, 122, 30])
def test_a_full_or_read_only_disk_is_named_when_the_folder_is_taken(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, "it cannot be")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(WrongState) as caught:
        ResidentVectors(MilvusLiteJournal(tmp_path)).open()
    assert caught.value.reason == ("DISK_READ_ONLY" if number == 30 else "DISK_FULL")


class Broken(MilvusLiteJournal):
    """A journal that cannot be read as a whole."""

    def load(self, name: str) -> Iterator[tuple[ItemSet, int]]:
        raise CorruptData(f"collection {name} is broken", kind="collection", id=name, reason="BROKEN")


def change_behind(folder: Path) -> None:
    """Something that a snapshot cannot know."""
    journal = MilvusLiteJournal(folder)
    journal.hold()
    generation = max(stored.generation for stored in journal.open())
    journal.delete("c", ["i0000", "i0001"], generation + 1)
    journal.close()
    journal.release()


def test_a_snapshot_that_differs_is_read_from_while_its_journal_cannot_be(
    store: ResidentVectors, tmp_path: Path
) -> None:
    store.close()
    change_behind(tmp_path / "vectors")
    again = ResidentVectors(Broken(tmp_path / "vectors"))
    again.open()
    with pytest.raises(CorruptData, match="is broken"):
        again.upsert("other", random_items(1))
    assert len(all_ids(again, "c")) == 50
    again.close()


def test_a_collection_that_is_read_anew_keeps_its_index_and_ends_the_old_one(
    store: ResidentVectors, tmp_path: Path
) -> None:
    store.delete_collection("other")
    store.close()
    before = set(threading.enumerate())
    change_behind(tmp_path / "vectors")
    again = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"), approximate_above_rows=10)
    assert again.create_collection("other", 8, "m").items == 0  # waits for the journal
    query = NearestQuery(np.ones((1, 8), np.float32), 48)
    assert len(again.nearest("c", query).results[0].hits) == 48
    assert len([one for one in set(threading.enumerate()) - before if one.name == "gandt-index"]) == 1
    again.close()
    assert not [one for one in set(threading.enumerate()) - before if one.name == "gandt-index"]


class Ended(NoJournal):
    """A journal that remembers what was made in it after its end."""

    def __init__(self) -> None:
        self.closed = False
        self.created_after_close: list[str] = []

    def create(self, name: str, dim: int, model_id: str) -> None:
        if self.closed:
            self.created_after_close.append(name)

    def close(self) -> None:
        self.closed = True


def test_nothing_is_made_in_a_store_that_was_closed_meanwhile() -> None:
    journal = Ended()
    store = ResidentVectors(journal)
    store.open()
    refused: list[str] = []

    def make(number: int) -> None:
        for step in range(200):
            try:
                store.create_collection(f"c{number}_{step}", 2, "")
            except WrongState as error:
                refused.append(error.reason)

    makers = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for maker in makers:
        maker.start()
    store.close()
    for maker in makers:
        maker.join()
    assert set(refused) <= {"STORE_CLOSED"}
    assert journal.created_after_close == []
