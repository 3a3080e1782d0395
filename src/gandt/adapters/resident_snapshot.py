# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of resident collections, so that a start need not read the journal.

A snapshot is one file a collection: all its rows at one generation, then a record for each change since. It is
appended to after the journal has a change and before the change is acknowledged, and written anew in the background
when replaced rows make up most of it. So after a kill it holds exactly what was acknowledged.

It is believed only when that can be proven without the journal: a head file names the file, its length and its
generation; checksums and the chain of generations hold; the head was written in the session that the journal's
folder names, since the machine's last start or at a clean close. Anything else is ignored, which costs time only.
A snapshot that cannot be written (disk full) is dropped; it never fails a change.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import struct
import threading
import zlib
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gandt.adapters.fsync import sync
from gandt.adapters.resident_table import ResidentTable, View
from gandt.adapters.snapshot_log import SnapshotLog
from gandt.adapters.snapshot_records import (
    BEGIN,
    CRC,
    DELETE,
    UPSERT,
    Unproven,
    encoded,
    records,
    write_atomically,
    written,
)
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import VectorSet

log = logging.getLogger(__name__)

BASE_BYTES = 16 << 20  # of vectors in one record of a fresh snapshot
SLACK_BYTES = 64 << 20  # a file is written anew above twice what lives in it, and this
RETRY_ROWS = 10_000  # rows changed before a dropped snapshot is tried again

_HEAD = struct.Struct("<4sIQQ16s16s")  # magic, clean, file number, generation, length; session, boot
_HEAD_MAGIC = b"gth1"


@dataclass(frozen=True, slots=True)
class Restored:
    """A collection as its snapshot has it."""

    name: str
    model_id: str
    dim: int
    table: ResidentTable


class Snapshots:
    """The snapshots of one store.

    Args:
        folder: where they are; made when missing. Nothing else may lie there.
        mark: file in the journal's folder that names the session which last had the store open.
        slack_bytes: in place of SLACK_BYTES.
    """

    def __init__(self, folder: Path, mark: Path, slack_bytes: int | None = None) -> None:
        self._folder = folder
        self._mark = mark
        self._slack = SLACK_BYTES if slack_bytes is None else slack_bytes
        self._session = secrets.token_bytes(16)
        self._boot = _boot()
        self._logs: dict[str, SnapshotLog] = {}
        self._lock = threading.Lock()
        self._worker: ThreadPoolExecutor | None = None
        self._rewrites: list[Future[None]] = []

    # ---- reading ----

    def restore(self, names: set[str], max_bytes: int) -> list[Restored] | None:
        """All collections, if there is a proven snapshot of each of `names` and of nothing else; else None.

        Args:
            max_bytes: above so many bytes of files nothing is read.
        """
        heads = sorted(self._folder.glob("*.head")) if self._folder.is_dir() else []
        if not heads and not names:
            return []
        try:
            session = self._mark.read_bytes() if self._mark.exists() else b""
            if sum(path.stat().st_size for path in self._folder.glob("*.rows")) > 2 * max_bytes + self._slack:
                raise Unproven("they are larger than max_resident_bytes")
            restored = [self._read(path, session) for path in heads]
            if {found.name for found in restored} != names:
                raise Unproven("they are not of the collections that are stored")
        except (Unproven, OSError, ValueError, KeyError, TypeError, struct.error) as error:
            log.warning("the snapshots in %s are ignored, the start takes longer: %s", self._folder, error)
            self._forget()
            return None
        return restored

    def _read(self, head_path: Path, session: bytes) -> Restored:
        head = head_path.read_bytes()
        body, checksum = head[: _HEAD.size + 8], head[_HEAD.size + 8 :]
        if len(head) != _HEAD.size + 8 + CRC.size or CRC.pack(zlib.crc32(body)) != checksum:
            raise Unproven(f"{head_path.name} is damaged")
        magic, clean, number, generation, its_session, boot = _HEAD.unpack(body[: _HEAD.size])
        (length,) = struct.unpack("<Q", body[_HEAD.size :])
        if magic != _HEAD_MAGIC or its_session != session:
            raise Unproven(f"{head_path.name} is not of the last session")
        if not clean and (boot != self._boot or not any(boot)):
            raise Unproven(f"{head_path.name} was not closed before the machine stopped")
        stem = head_path.stem
        path = self._folder / f"{stem}.{number}.rows"
        table, begin, last = None, {}, generation
        for kind, newest, meta, matrix in records(path, length):
            if table is None:
                if kind != BEGIN:
                    raise Unproven(f"{path.name} has no beginning")
                begin, table = meta, ResidentTable(meta["dim"])
            elif kind == UPSERT:
                table.append(ItemSet(VectorSet(meta["ids"], matrix, begin["model_id"]), meta["fields"]), newest)
            else:
                table.remove(meta["ids"], newest)
            last = newest
        if table is None or last != generation:
            raise Unproven(f"{path.name} ends at another generation than its head says")
        table.advance(generation)
        known = SnapshotLog(stem, begin["name"], begin["dim"], begin["model_id"], number, generation, length)
        self._logs[known.name] = known
        return Restored(known.name, known.model_id, known.dim, table)

    def begin_session(self, names: Collection[str]) -> None:
        """Take up the restored snapshots of `names` for writing; all else goes. Call it when the journal is open."""
        with self._lock, self._dropping_all():
            self._logs = {name: known for name, known in self._logs.items() if name in names}
            self._folder.mkdir(parents=True, exist_ok=True)
            used = {f"{known.stem}.{known.number}.rows" for known in self._logs.values()}
            for path in self._folder.iterdir():
                if path.name not in used | {f"{known.stem}.head" for known in self._logs.values()}:
                    path.unlink()
            write_atomically(self._mark, self._session)
            for known in self._logs.values():
                known.file = (self._folder / f"{known.stem}.{known.number}.rows").open("r+b", buffering=0)
                known.file.truncate(known.length)  # a change that was not acknowledged
                known.file.seek(known.length)
                self._write_head(known)

    # ---- writing; the caller holds the collection's writer lock ----

    def note_upsert(self, name: str, items: ItemSet, generation: int, view: View) -> None:
        """Items that the journal has taken; `view` is the table with them."""
        ids, fields = list(items.ids), [dict(row) for row in items.fields]
        matrix = np.ascontiguousarray(items.vectors.matrix, np.float32)
        self._note(name, UPSERT, {"ids": ids, "fields": fields}, matrix, generation, view)

    def note_delete(self, name: str, ids: Sequence[str], generation: int, view: View) -> None:
        """Items that the journal has deleted; `view` is the table without them."""
        self._note(name, DELETE, {"ids": list(ids)}, np.zeros((0, 0), np.float32), generation, view)

    def _note(self, name: str, kind: int, meta: dict[str, Any], matrix: Any, generation: int, view: View) -> None:
        with self._lock:
            known = self._logs.get(name)
            if known is None:
                return
            parts = encoded(kind, generation, known.generation, meta, matrix)
            if known.rewriting:
                known.keep(parts)
            known.generation = generation
            if known.file is None:
                known.rows_missed += len(meta["ids"])
            else:
                with self._dropping(known):
                    known.length += written(known.file, parts)
                    self._write_head(known)
            size = view.items * (4 * known.dim + 32)
            due = known.length > 2 * size + self._slack if known.file else known.rows_missed >= RETRY_ROWS
            if due and not known.rewriting:
                self._rewrite_later(known, view)

    def replace(self, name: str, dim: int, model_id: str, view: View) -> None:
        """Write a collection's snapshot anew in the background, and keep it in step from here on."""
        with self._lock:
            known = self._logs.get(name)
            if known is not None:
                self._drop(known)
                known.gone = True
            known = self._logs[name] = SnapshotLog(_stem(name), name, dim, model_id, known.number if known else 0)
            known.generation = view.generation
            self._rewrite_later(known, view)

    def drop(self, name: str) -> None:
        """Forget a collection that is being deleted."""
        with self._lock:
            known = self._logs.pop(name, None)
            if known is not None:
                known.gone = True
                self._drop(known)

    def settle(self) -> None:
        """Wait for what is being written in the background."""
        while self._rewrites:
            self._rewrites.pop().result()

    def close(self, views: dict[str, View]) -> None:
        """Make the snapshots last beyond the machine's stop. The journal is closed already.

        Args:
            views: the tables as they are, for the snapshots that are still to be written.
        """
        self.settle()
        for name, view in views.items():
            with self._lock:
                known = self._logs.get(name)
                if known is not None and known.file is None:
                    self._rewrite_later(known, view)
        self.settle()
        if self._worker is not None:
            self._worker.shutdown()
            self._worker = None
        with self._lock:
            for known in self._logs.values():
                if known.file is not None:
                    with self._dropping(known):
                        os.fsync(known.file.fileno())
                        self._write_head(known, clean=True)
                        os.fsync(known.head)
                known.close()
            self._logs.clear()
            with contextlib.suppress(OSError):
                sync(self._folder)

    # ---- inside; the lock is held ----

    def _rewrite_later(self, known: SnapshotLog, view: View) -> None:
        known.begin_rewrite(self._folder)
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, "snapshot")
        self._rewrites = [rewrite for rewrite in self._rewrites if not rewrite.done()]
        self._rewrites.append(self._worker.submit(self._rewrite, known, view))

    def _rewrite(self, known: SnapshotLog, view: View) -> None:
        """In the worker: the lock is held only to take over what was changed meanwhile."""
        path = self._folder / f"{known.stem}.{known.number + 1}.rows"
        file: BinaryIO | None = None
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = path.open("w+b", buffering=0)
            length = sum(written(file, parts) for parts in _base(known, view))
            os.fsync(file.fileno())
            with self._lock:
                if not known.gone:
                    length += known.append_changes(file)
                    fresh, file = file, None
                    self._use(known, fresh, length)
        except OSError as error:
            self._say(known.name, error)
            with self._lock:
                if not known.gone:
                    self._drop(known)
        finally:
            if file is not None:
                file.close()
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            with self._lock:
                known.end_rewrite()

    def _use(self, known: SnapshotLog, file: BinaryIO, length: int) -> None:
        """From now on the snapshot is this file; the one before goes, whatever happens."""
        old, old_path = known.file, self._folder / f"{known.stem}.{known.number}.rows"
        known.file, known.number, known.length = file, known.number + 1, length
        try:
            self._write_head(known)
            sync(self._folder)
        finally:
            if old is not None:
                old.close()
                with contextlib.suppress(OSError):
                    old_path.unlink(missing_ok=True)

    def _write_head(self, known: SnapshotLog, clean: bool = False) -> None:
        if known.head < 0:
            known.head = os.open(self._folder / f"{known.stem}.head", os.O_RDWR | os.O_CREAT, 0o644)
        body = _HEAD.pack(_HEAD_MAGIC, clean, known.number, known.generation, self._session, self._boot)
        body += struct.pack("<Q", known.length)
        os.pwrite(known.head, body + CRC.pack(zlib.crc32(body)), 0)  # one call: a kill does not part it

    @contextlib.contextmanager
    def _dropping(self, known: SnapshotLog) -> Iterator[None]:
        """What cannot be written is dropped: first the head, so that nobody believes the rest."""
        try:
            yield
        except OSError as error:
            self._say(known.name, error)
            self._drop(known)

    @contextlib.contextmanager
    def _dropping_all(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._say("all", error)
            for known in self._logs.values():
                self._drop(known)

    def _drop(self, known: SnapshotLog) -> None:
        for path in (f"{known.stem}.head", f"{known.stem}.{known.number}.rows"):
            with contextlib.suppress(OSError):
                (self._folder / path).unlink(missing_ok=True)
        known.close()
        known.length = 0

    def _forget(self) -> None:
        self._logs.clear()

    def _say(self, name: str, error: OSError) -> None:
        log.warning(
            "the snapshot of collection %s cannot be written and is dropped, the next start takes longer: %s",
            name,
            error.strerror or error,
        )


def _base(known: SnapshotLog, view: View) -> Iterator[list[Any]]:
    """A whole table as records."""
    meta = {"name": known.name, "dim": known.dim, "model_id": known.model_id, "items": view.items}
    yield encoded(BEGIN, view.generation, view.generation, meta, np.zeros((0, 0), np.float32))
    rows = np.flatnonzero(view.corpus(None, {}).keep)
    step = max(1, BASE_BYTES // (4 * known.dim))
    for start in range(0, len(rows), step):
        items = view.items_of(rows[start : start + step], "", True, True)
        meta = {"ids": list(items.ids), "fields": list(items.fields) if any(items.fields) else []}
        yield encoded(UPSERT, view.generation, view.generation, meta, items.vectors.matrix)


def _stem(name: str) -> str:
    """Names of collections are up to 255 characters long, names of files too: the ending needs room."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _boot() -> bytes:
    """Which start of the machine this is; zeros where that is unknown."""
    try:
        text = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return bytes(16)
    return bytes.fromhex(text.strip().replace("-", ""))
