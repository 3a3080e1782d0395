# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedded vector store over restarts: snapshots answer first and never wrongly; fsync; who has the folder."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from milvus_lite.db import MilvusLite

from gandt.adapters.milvus_lite import MilvusLiteJournal
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.errors import BackendUnavailable, GandtError, WrongState
from gandt.domain.fields import FieldValue
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import VectorSet
from tests.unit.refused_places import refused


class UnreadJournal(MilvusLiteJournal):
    """A journal that must not be read as a whole."""

    def load(self, name: str) -> Iterator[tuple[ItemSet, int]]:
        raise AssertionError(f"collection {name} was loaded from the journal")


def some(count: int, seed: int = 0, prefix: str = "i") -> ItemSet:
    matrix = np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)
    return ItemSet(VectorSet([f"{prefix}{n:03d}" for n in range(count)], matrix), [{"seed": seed}] * count)


def content(store: ResidentVectors) -> dict[str, tuple[list[float], dict[str, FieldValue]]]:
    found = {}
    for block in store.scan("c", with_fields=True).blocks:
        for image_id, vector, fields in zip(block.ids, block.vectors.matrix.tolist(), block.fields, strict=True):
            found[image_id] = (vector, dict(fields))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store with 100 items, 20 of them replaced and 10 deleted since."""
    store = ResidentVectors(MilvusLiteJournal(tmp_path / "vectors"))
    store.create_collection("c", 4, "", "live")
    store.upsert("c", some(100))
    store.upsert("c", some(20, seed=1))
    store.delete("c", [f"i{n:03d}" for n in range(90, 100)])
    store.close()
    return tmp_path / "vectors"


def raw(folder: Path, change: str) -> None:
    """What a write that was not acknowledged leaves in Milvus Lite."""
    journal = MilvusLiteJournal(folder)
    journal.hold()
    (stored,) = journal.open()
    if change == "upsert":
        journal.write("c", some(5, seed=7, prefix="n"), stored.generation + 1)
        journal.write("c", some(5, seed=7), stored.generation + 1)
    else:
        journal.delete("c", ["i000", "i001"], stored.generation + 1)
    journal.close()
    journal.release()


def test_a_restart_reads_the_snapshot_and_not_the_journal(folder: Path) -> None:
    store = ResidentVectors(UnreadJournal(folder))
    described = store.get_collection("live")
    assert (described.items, described.generation, described.aliases) == (90, 3, ("live",))
    assert store.upsert("c", some(1, seed=5)) == 4  # waits for the journal
    store.close()
    again = ResidentVectors(UnreadJournal(folder))
    assert content(again)["i000"][1] == {"seed": 5}
    again.close()


def test_what_was_stored_and_not_acknowledged_comes_up_later(folder: Path) -> None:
    raw(folder, "upsert")
    store = ResidentVectors(UnreadJournal(folder))
    assert store.get_collection("c").items == 90
    assert store.upsert("c", some(1, seed=9, prefix="z")) == 5  # 4 was the unacknowledged one
    found = content(store)
    assert len(found) == 96
    assert found["i000"][1] == found["n000"][1] == {"seed": 7}
    store.close()


def test_a_snapshot_that_differs_from_the_journal_gives_way(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw(folder, "delete")
    store = ResidentVectors(MilvusLiteJournal(folder))
    with caplog.at_level(logging.WARNING):
        store.create_collection("d", 4, "")  # waits for the journal
    assert "its store holds something else" in caplog.text
    assert store.get_collection("c").items == 88
    assert "i000" not in content(store)
    store.close()


@pytest.mark.parametrize("damage", ["no snapshots", "cut", "flipped", "another database"])
def test_a_damaged_snapshot_costs_time_only(folder: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    rows = next((folder / "resident").glob("*.rows"))
    if damage == "no snapshots":
        shutil.rmtree(folder / "resident")
    elif damage == "cut":
        os.truncate(rows, rows.stat().st_size - 3)
    elif damage == "flipped":
        data = bytearray(rows.read_bytes())
        data[-100] ^= 4
        rows.write_bytes(data)
    else:
        (folder / "milvus.db" / "gandt_session").write_bytes(bytes(16))
    store = ResidentVectors(MilvusLiteJournal(folder))
    assert len(content(store)) == 90
    assert len([record for record in caplog.records if "snapshot" in record.message]) == 1
    store.close()
    again = ResidentVectors(UnreadJournal(folder))
    assert len(content(again)) == 90
    again.close()


def test_a_broken_database_can_be_read_from_the_snapshot_and_not_written(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for part in (folder / "milvus.db" / "collections" / "c").glob("manifest.json*"):
        part.write_text("{")
    store = ResidentVectors(MilvusLiteJournal(folder))
    with pytest.raises(BackendUnavailable, match="milvus-lite"):
        store.upsert("c", some(1, seed=5))
    assert "can be read from a snapshot, but not written" in caplog.text
    assert len(content(store)) == 90
    store.close()
    shutil.rmtree(folder / "resident")
    with pytest.raises(GandtError):
        ResidentVectors(MilvusLiteJournal(folder)).open()


def test_raw_milvus_lite_in_the_folder_is_named(folder: Path) -> None:
    database = MilvusLite(str(folder / "milvus.db"))
    try:
        with pytest.raises(WrongState, match=f"in use by another process \\(process {os.getpid()}\\)") as caught:
            ResidentVectors(MilvusLiteJournal(folder)).open()
        assert caught.value.reason == "IN_USE"
    finally:
        database.close()


@pytest.mark.parametrize("durability", ["process", "fsync"])
def test_with_fsync_the_log_is_on_the_disk_before_the_write_returns(
    tmp_path: Path, durability: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    store = ResidentVectors(MilvusLiteJournal(tmp_path, flush_rows=100, durability=durability))  # type: ignore[arg-type]
    store.create_collection("c", 4, "", "live")
    home = str(tmp_path / "milvus.db" / "collections" / "c")
    monkeypatch.setattr(os, "fsync", fsync)

    def during(call: object) -> list[str]:
        synced.clear()
        call()  # type: ignore[operator]
        return [path.removeprefix(home) for path in synced if path.startswith(home)]

    first = during(lambda: store.upsert("c", some(10)))
    second = during(lambda: store.upsert("c", some(10, seed=1)))
    removed = during(lambda: store.delete("c", ["i000"]))
    flushed = during(lambda: store.upsert("c", some(100, seed=2)))
    segments = [path for path in flushed if path.endswith(".parquet")]
    if durability == "process":
        assert not [path for path in first + second + removed if path.endswith(".arrow")]
        assert not segments
    else:
        log = next(path for path in first if "/wal/wal_data_" in path)
        assert "/wal" in first  # the new file's name
        assert second == [log]
        assert [path for path in removed if "/wal/wal_delta_" in path]
        assert segments
        manifest = flushed.index("/manifest.json.tmp")
        assert all(flushed.index(path) < manifest for path in segments)
        synced.clear()
        store.create_collection("d", 4, "", "live")
        assert str(tmp_path / "milvus.db" / "aliases.json.tmp") in synced
    store.close()


@pytest.mark.parametrize("damage", ["a file", "no manifest", "refused"])
def test_a_database_that_does_not_open_says_so_and_lets_go(tmp_path: Path, folder: Path, damage: str) -> None:
    shutil.rmtree(folder / "resident")  # nothing else to answer from
    database = folder / "milvus.db"
    if damage == "a file":
        shutil.rmtree(database)
        database.write_bytes(b"SQLite format 3\x00")
    elif damage == "no manifest":
        for part in (database / "collections" / "c").glob("manifest.json*"):
            part.write_text("{")
    with refused(database) if damage == "refused" else contextlib.nullcontext():
        with pytest.raises(GandtError) as caught:
            ResidentVectors(MilvusLiteJournal(folder)).open()
        assert str(folder) in caught.value.message
        assert caught.value.fix
    shutil.rmtree(database) if database.is_dir() else database.unlink()
    again = MilvusLiteJournal(folder)  # the folder is free again
    assert again.hold() is not None
    again.release()


def test_a_refused_snapshot_costs_time_only(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ResidentVectors(MilvusLiteJournal(folder))
    with refused(folder / "resident"):
        assert len(content(store)) == 90
        assert store.upsert("c", some(1, seed=5)) == 4
        store.close()
    assert "snapshot" in caplog.text
