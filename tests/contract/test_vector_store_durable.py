# SPDX-License-Identifier: GPL-3.0-or-later
"""What only durable stores promise: restarts, kills, one process, memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.errors import WrongState
from gandt.ports.vector_store import VectorStore
from tests.contract.vector_items import TRAPS, all_ids, items, random_items

Make = Callable[[], VectorStore]


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
