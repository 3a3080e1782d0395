# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors by content in an SQLite file, for restarts and for several servers of one machine."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)
_ROW_OVERHEAD = 100  # bytes of key, index and page; measured, rounded up
_WAIT_MILLISECONDS = 200  # for another process's writing; a vector is computed sooner than that
_DROP_SHARE = 0.1  # of the rows, at once, when there are too many


class SqliteVectors:
    """See `KeptVectors`. The oldest rows are dropped first.

    Args:
        path: the file of one model; made when it is not there, and made anew when it cannot be read.
        dim: numbers in a vector.
        max_bytes: about what the file may take.
        open_seconds: how long to wait for another process that makes the same file.
    """

    def __init__(self, path: Path, dim: int, max_bytes: int, open_seconds: float = 5.0) -> None:
        self._path, self._dim, self._lock = path, dim, threading.Lock()
        self._open_seconds = open_seconds
        self._most = max(1, max_bytes // (4 * dim + _ROW_OVERHEAD))
        self._file: sqlite3.Connection | None = None
        self._rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._open()
            except sqlite3.DatabaseError as error:
                if not _is_broken(error):  # a locked one is another process's, a read-only one somebody else's
                    raise
                log.warning("the cache %s cannot be read and is made anew: %s", path, error)
                self._remove()
                self._open()
        except (OSError, sqlite3.Error) as error:
            self._give_up(error)

    def __len__(self) -> int:
        return self._rows

    def get(self, key: bytes) -> NDArray[np.float32] | None:
        """See `KeptVectors.get`."""
        with self._lock:
            if self._file is None:
                return None
            try:
                found = self._file.execute("SELECT vector FROM vectors WHERE key = ?", (key,)).fetchone()
            except sqlite3.Error as error:
                self._give_up(error)
                return None
        if found is None or len(found[0]) != 4 * self._dim:
            return None
        return np.frombuffer(found[0], "<f4").astype(np.float32, copy=False)

    def put(self, rows: Sequence[tuple[bytes, NDArray[np.float32]]]) -> None:
        """See `KeptVectors.put`."""
        data = [(key, row.astype("<f4", copy=False).tobytes()) for key, row in rows]
        with self._lock:
            if self._file is None:
                return
            try:
                with self._file:
                    before = self._file.total_changes
                    self._file.executemany("INSERT OR IGNORE INTO vectors (key, vector) VALUES (?, ?)", data)
                    self._rows += self._file.total_changes - before
                    if self._rows > self._most:
                        self._drop_oldest()
            except sqlite3.Error as error:
                if _is_busy(error):
                    log.debug("another process writes to %s; %d vectors are not kept", self._path, len(data))
                else:
                    self._give_up(error)

    def close(self) -> None:
        """See `KeptVectors.close`."""
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self) -> None:
        file = sqlite3.connect(self._path, timeout=self._open_seconds, check_same_thread=False)
        try:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = OFF")  # what a power cut takes is computed again
            file.execute("CREATE TABLE IF NOT EXISTS vectors (id INTEGER PRIMARY KEY, key BLOB UNIQUE, vector BLOB)")
            self._rows = int(file.execute("SELECT count(*) FROM vectors").fetchone()[0])
            file.execute(f"PRAGMA busy_timeout = {_WAIT_MILLISECONDS}")
        except BaseException:
            file.close()
            raise
        self._file = file

    def _remove(self) -> None:
        for end in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)

    def _drop_oldest(self) -> None:
        assert self._file is not None
        count = self._rows - self._most + int(self._most * _DROP_SHARE)
        self._file.execute("DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)", (count,))
        self._rows = int(self._file.execute("SELECT count(*) FROM vectors").fetchone()[0])  # others put too

    def _give_up(self, error: Exception) -> None:
        """A full disk, a broken file: the service goes on without. The next start makes a broken file anew."""
        log.warning("vectors are kept in memory alone from now on: %s", error)
        if self._file is not None:
            with contextlib.suppress(sqlite3.Error):
                self._file.close()
            self._file = None
        if _is_broken(error):
            with contextlib.suppress(OSError):
                self._remove()


def _is_broken(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _is_busy(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _code(error: Exception) -> int:
    """SQLite's primary result code; 0 for other errors."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF
