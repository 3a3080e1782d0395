# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of resident collections: believed when they are proven, ignored otherwise, never in the way of a write."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gandt.adapters import resident_snapshot, snapshot_log
from gandt.adapters.resident_snapshot import Restored, Snapshots
from gandt.adapters.resident_table import ResidentTable
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import VectorSet

BIG = 1 << 40


class Writer:
    """A collection of 3-d vectors that is written to as the store does it."""

    def __init__(self, folder: Path, slack_bytes: int = BIG) -> None:
        self.snapshots = make(folder, slack_bytes)
        assert self.snapshots.restore(set(), BIG) == []
        self.snapshots.begin_session(())
        self.table = ResidentTable(3)
        self.snapshots.replace("c", 3, "m", self.table.view)
        self.snapshots.settle()

    def upsert(self, ids: list[str], value: float) -> None:
        generation = self.table.view.generation + 1
        matrix = np.full((len(ids), 3), value, np.float32)
        items = ItemSet(VectorSet(ids, matrix, "m"), [{"value": value, "id": image_id} for image_id in ids])
        self.table.append(items, generation)
        self.snapshots.note_upsert("c", items, generation, self.table.view)

    def delete(self, ids: list[str]) -> None:
        generation = self.table.view.generation + 1
        self.table.remove(ids, generation)
        self.snapshots.note_delete("c", ids, generation, self.table.view)


_open: list[Snapshots] = []


@pytest.fixture(autouse=True)
def _closing() -> Iterator[None]:
    yield
    while _open:
        _open.pop().close({})


def make(folder: Path, slack_bytes: int = BIG) -> Snapshots:
    _open.append(Snapshots(folder / "resident", folder / "mark", slack_bytes))
    return _open[-1]


def content(table: ResidentTable) -> dict[str, tuple[list[float], dict[str, object]]]:
    rows = np.flatnonzero(table.view.corpus(None, {}).keep)
    items = table.view.items_of(rows, "", True, True)
    return {
        image_id: (vector, dict(fields))
        for image_id, vector, fields in zip(items.ids, items.vectors.matrix.tolist(), items.fields, strict=True)
    }


def restored(folder: Path) -> Restored:
    found = make(folder).restore({"c"}, BIG)
    assert found is not None
    return found[0]


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    writer = Writer(tmp_path)
    writer.upsert(["a", "b", "ü"], 1.5)
    writer.upsert(["b", "d"], 2.0)
    writer.delete(["a"])
    return writer


@pytest.mark.parametrize("end", ["kill", "close"])
def test_what_was_noted_is_restored(writer: Writer, tmp_path: Path, end: str) -> None:
    if end == "close":
        writer.snapshots.close({"c": writer.table.view})
    found = restored(tmp_path)
    assert (found.name, found.dim, found.model_id, found.table.view.generation) == ("c", 3, "m", 3)
    assert found.table.view.items == 3
    assert content(found.table) == content(writer.table)


def test_a_change_that_was_not_acknowledged_is_cut_off(writer: Writer, tmp_path: Path) -> None:
    with rows_file(tmp_path).open("ab") as file:
        file.write(b"half a record")
    again = make(tmp_path)
    (found,) = again.restore({"c"}, BIG) or []
    again.begin_session(["c"])
    items = ItemSet(VectorSet(["e"], np.ones((1, 3), np.float32), "m"), ())
    found.table.append(items, 4)
    again.note_upsert("c", items, 4, found.table.view)
    assert content(restored(tmp_path).table) == content(found.table)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_damage_is_noticed(writer: Writer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    del writer
    head = next((tmp_path / "resident").glob("*.head"))
    rows = rows_file(tmp_path)
    wholes = {path: path.read_bytes() for path in (head, rows)}
    damages: list[Callable[[], object]] = [
        lambda: cut(rows),
        lambda: flip(rows),
        lambda: cut(head),
        lambda: flip(head),
        rows.unlink,
        head.unlink,
        lambda: (tmp_path / "mark").write_bytes(b"another session."),
    ]
    for damage in damages:
        damage()
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert make(tmp_path).restore({"c"}, BIG) is None
        assert len(caplog.records) == 1
        assert "start takes longer" in caplog.text
        for path, whole in wholes.items():
            path.write_bytes(whole)


def test_an_older_snapshot_that_somebody_put_back_is_noticed(writer: Writer, tmp_path: Path) -> None:
    writer.snapshots.close({"c": writer.table.view})
    old = {path: path.read_bytes() for path in (tmp_path / "resident").iterdir()}
    again = make(tmp_path)
    assert again.restore({"c"}, BIG)
    again.begin_session(["c"])
    again.close({})
    assert make(tmp_path).restore({"c"}, BIG)
    for path, data in old.items():
        path.write_bytes(data)
    assert make(tmp_path).restore({"c"}, BIG) is None


def test_collections_must_be_those_of_the_store(writer: Writer, tmp_path: Path) -> None:
    del writer
    assert make(tmp_path).restore({"c", "other"}, BIG) is None
    assert make(tmp_path).restore(set(), BIG) is None


def test_only_a_clean_close_outlives_the_machine(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resident_snapshot, "_boot", lambda: b"another start...")
    assert make(tmp_path).restore({"c"}, BIG) is None
    writer.snapshots.close({"c": writer.table.view})
    assert make(tmp_path).restore({"c"}, BIG) is not None


def test_replaced_rows_do_not_pile_up(tmp_path: Path) -> None:
    writer = Writer(tmp_path, slack_bytes=1000)
    for value in range(1, 100):
        writer.upsert(["a", "b", "c"], float(value))
        writer.snapshots.settle()
    assert len(list((tmp_path / "resident").glob("*.rows"))) == 1
    assert rows_file(tmp_path).stat().st_size < 2500
    assert content(restored(tmp_path).table) == content(writer.table)


def test_a_full_disk_fails_no_write_and_the_snapshot_comes_back(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(resident_snapshot, "written", full)
        writer.upsert(["x"], 7.0)
    assert "No space left on device" in caplog.text
    assert make(tmp_path).restore({"c"}, BIG) is None
    writer.upsert([f"i{n}" for n in range(resident_snapshot.RETRY_ROWS)], 1.0)
    writer.snapshots.settle()
    assert content(restored(tmp_path).table) == content(writer.table)


class Rewriting:
    """Holds a rewrite back after it has read the table."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        base = resident_snapshot._base

        def held(*args: Any) -> Iterator[list[Any]]:
            yield from base(*args)
            self.began.set()
            assert self.go_on.wait(60)

        monkeypatch.setattr(resident_snapshot, "_base", held)


def open_files(folder: Path) -> list[str]:
    links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if link.startswith(str(folder))]


def test_changes_during_a_rewrite_are_kept_and_beyond_a_size_in_a_file(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot_log, "PENDING_BYTES", 1000)
    rewriting = Rewriting(monkeypatch)
    writer.snapshots.replace("c", 3, "m", writer.table.view)
    assert rewriting.began.wait(60)
    writer.upsert(["a", "e"], 7.0)
    assert len(open_files(tmp_path)) == 1  # the new snapshot
    for value in range(1, 20):
        writer.upsert([f"i{number}" for number in range(5)], float(value))
    writer.delete(["b"])
    assert len(open_files(tmp_path)) == 2  # and what would take too much memory
    rewriting.go_on.set()
    writer.snapshots.settle()
    assert content(restored(tmp_path).table) == content(writer.table)
    assert all(name.endswith((".head", ".rows")) for name in open_files(tmp_path))


@pytest.mark.parametrize("fails", ["sync", "keep"])
def test_a_rewrite_that_fails_late_leaves_no_file_open_and_nothing_to_believe(
    writer: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fails: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    rewriting = Rewriting(monkeypatch)
    monkeypatch.setattr(writer.snapshots, "_slack", -BIG)  # every change is a reason to write it anew
    writer.upsert(["e"], 3.0)
    assert rewriting.began.wait(60)
    with monkeypatch.context() as patch:
        if fails == "sync":
            patch.setattr(resident_snapshot, "sync", full)
        else:
            patch.setattr(tempfile.SpooledTemporaryFile, "write", full)
            writer.upsert(["f"], 4.0)
        rewriting.go_on.set()
        writer.snapshots.settle()
    assert "No space left on device" in caplog.text
    assert open_files(tmp_path) == []
    assert list((tmp_path / "resident").iterdir()) == []
    assert make(tmp_path).restore({"c"}, BIG) is None
    monkeypatch.setattr(writer.snapshots, "_slack", BIG)
    writer.upsert([f"i{n}" for n in range(resident_snapshot.RETRY_ROWS)], 1.0)
    writer.snapshots.settle()
    assert content(restored(tmp_path).table) == content(writer.table)


def test_a_deleted_collection_leaves_nothing(writer: Writer, tmp_path: Path) -> None:
    writer.snapshots.drop("c")
    assert list((tmp_path / "resident").iterdir()) == []


def test_too_much_for_memory_is_not_read(writer: Writer, tmp_path: Path) -> None:
    del writer
    assert make(tmp_path, slack_bytes=0).restore({"c"}, 10) is None


def rows_file(folder: Path) -> Path:
    return next((folder / "resident").glob("*.rows"))
