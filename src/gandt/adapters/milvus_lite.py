# SPDX-License-Identifier: GPL-3.0-or-later
"""Milvus Lite as the durable journal under the resident store.

Lite is a sound store and a slow, under filters even wrong, search engine; so it is only written to, and read
once at the start. It wants a flush every 10,000 rows (replaying its log is slow), allows one process a
folder, calls concurrent writers unsafe, and needs `release_server` (closing the client leaves its server
running). It speaks gRPC to itself over loopback, also beside our own servers.

Making and removing a collection are not atomic in Lite: a kill between leaves a folder that it neither lists
nor lets be made again. So the name stands in a file `UNFINISHED` meanwhile, and the next start removes what is left.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from gandt.adapters import milvus_aliases, milvus_lite_rows
from gandt.adapters import milvus_client as milvus
from gandt.adapters.folder_lock import in_use, refuse_if_locked
from gandt.adapters.milvus_lite_fsync import sync, sync_writes_below
from gandt.adapters.resident_journal import Glimpse, StoredCollection, half_deleted
from gandt.adapters.resident_snapshot import Snapshots
from gandt.domain import disk
from gandt.domain.errors import GandtError, PermissionDenied
from gandt.domain.search_records import ItemSet

log = logging.getLogger(__name__)

Durability = Literal["process", "fsync"]
FLUSH_ROWS = 10_000
UNFINISHED = "UNFINISHED"
# Lite's server lives in this process, and closes connections that ping as often as pymilvus does.
NO_PINGS = {"grpc.keepalive_time_ms": 2**31 - 1, "grpc.keepalive_permit_without_calls": False}
READ_BYTES = 16 << 20  # pymilvus makes a Python float of every number: ten times that in memory


class MilvusLiteJournal:
    """Collections in a folder, one Milvus Lite database.

    Args:
        folder: where; made when missing. It holds `milvus.db` (a folder of Lite's), `LOCK`, `resident`
            (snapshots) and, for a moment, `UNFINISHED`.
        flush_rows: rows written between flushes. More is faster to write and slower to start after a kill.
        page_rows: most rows read at once.
        durability: what an acknowledged write survives: the end of this process, or ("fsync") the loss of power.
    """

    def __init__(
        self,
        folder: Path,
        flush_rows: int = FLUSH_ROWS,
        page_rows: int = milvus.PAGE_ROWS,
        durability: Durability = "process",
    ) -> None:
        self._folder = folder
        self._database = folder.absolute() / "milvus.db"
        self._durability = durability
        self._flush_rows = flush_rows
        self._page_rows = page_rows
        self._client: Any = None
        self._held: TextIO | None = None
        self._unflushed: dict[str, int] = {}
        self._known: dict[str, milvus.Described] = {}
        self._lock = threading.RLock()

    def hold(self) -> Glimpse | None:
        """See Journal.

        Raises:
            WrongState: another process has the folder.
            PermissionDenied: the folder cannot be read and written.
        """
        with self._lock:
            self._hold()
            try:
                refuse_if_locked(self._database / "LOCK", self._folder)  # by Milvus Lite without this service
                if (self._folder / UNFINISHED).exists():
                    return None
                collections, aliases = self._database / "collections", self._database / "aliases.json"
                names = frozenset(path.name for path in collections.iterdir()) if collections.is_dir() else frozenset()
                try:
                    return Glimpse(names, json.loads(aliases.read_bytes()) if aliases.exists() else {})
                except ValueError:
                    return None  # Lite is going to say what is wrong
            except OSError as error:
                self.release()
                raise self._refused(error) from error
            except BaseException:
                self.release()
                raise

    def snapshots(self) -> Snapshots:
        """See Journal."""
        return Snapshots(self._folder / "resident", self._database / "gandt_session")

    def open(self) -> list[StoredCollection]:
        """See Journal.

        Raises:
            BackendUnavailable: Lite does not start.
        """
        with self._lock:
            self._sweep()
            if self._durability == "fsync":
                sync_writes_below(self._folder)
            with self._translated("open"):
                self._client = milvus.client_class()(str(self._database), grpc_options=NO_PINGS)
                found = [self._stored(name) for name in sorted(self._client.list_collections())]
            return [collection for collection in found if collection is not None]

    def close(self) -> None:
        """See Journal."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None:
                self._release(client)

    def release(self) -> None:
        """See Journal."""
        with self._lock:
            held, self._held = self._held, None
            if held is not None:
                held.close()  # and with it the lock

    def create(self, name: str, dim: int, model_id: str) -> None:
        """See Journal."""
        with self._lock, self._translated(f"create collection {name}"), self._unfinished(name):
            milvus.create_collection(self._client, name, dim, model_id, "FLAT", {})
            self._client.release_collection(name)  # writing needs it not loaded, and Lite then holds less in memory
            self._sync_folder("collections", name)
            self._sync_folder("collections")
            self._known[name] = milvus.Described(name, dim, model_id, 0)

    def point_alias(self, alias: str, name: str) -> None:
        """See Journal. Lite replaces its file of aliases in one moment."""
        with self._lock, self._translated(f"switch alias {alias}"):
            milvus_aliases.point_alias(self._client, alias, name)

    def drop(self, name: str) -> None:
        """See Journal."""
        with self._lock, self._unfinished(name):
            self._unflushed.pop(name, None)
            try:
                with self._translated(f"delete collection {name}"):
                    if self._client.has_collection(name):  # else an earlier attempt got so far
                        for alias in milvus_aliases.aliases_of(self._client, name):
                            self._client.drop_alias(alias)  # Lite drops them last: a kill would leave them
                        self._client.drop_collection(name)
                    self._sync_folder("collections")
            except GandtError as error:
                raise half_deleted(name, str(error)) from error

    def load(self, name: str) -> Iterator[tuple[ItemSet, int]]:
        """See Journal."""
        known = self._known[name]
        rows = max(1, min(self._page_rows, READ_BYTES // (4 * known.dim)))
        columns = [milvus.ID, milvus.GENERATION, milvus.FIELDS, milvus.VECTOR]
        with self._lock, self._translated(f"read collection {name}"):
            self._client.load_collection(name)
            for page in milvus.pages(self._client, name, columns, rows):
                yield milvus.items_of(page, known.dim, known.model_id), max(row[milvus.GENERATION] for row in page)
            self._client.release_collection(name)

    def newer(self, name: str, generation: int) -> tuple[ItemSet, int] | None:
        """See Journal."""
        known = self._known[name]
        limit = max(1, READ_BYTES // (4 * known.dim))
        columns = [milvus.ID, milvus.GENERATION, milvus.FIELDS, milvus.VECTOR]
        with self._lock, self._translated(f"read collection {name}"):
            condition = f"{milvus.GENERATION} > {generation}"
            rows = self._client.query(name, filter=condition, limit=limit, output_fields=columns)
            self._client.release_collection(name)
            if len(rows) == limit:
                return None
            newest = max((row[milvus.GENERATION] for row in rows), default=generation)
            return milvus.items_of(rows, known.dim, known.model_id), newest

    def write(self, name: str, items: ItemSet, generation: int) -> None:
        """See Journal."""
        with self._lock, self._translated(f"write to collection {name}"):
            milvus_lite_rows.upsert(self._client, name, items, generation)
            self._flush_when_due(name, len(items))

    def delete(self, name: str, ids: Sequence[str], generation: int) -> None:
        """See Journal."""
        with self._lock, self._translated(f"delete items of collection {name}"):
            # First the generation: deleted rows cannot carry it, and it may never run backwards.
            milvus.note_generation(self._client, name, generation)
            self._sync_folder("collections", name)
            milvus.delete(self._client, name, ids)
            self._flush_when_due(name, len(ids))

    # ---- inside ----

    def _hold(self) -> None:
        """Take the folder for this store alone, in this process too."""
        if self._held is not None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            held = (self._folder / "LOCK").open("a+")
        except OSError as error:
            raise self._refused(error) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            held.seek(0)
            owner = held.read(100).strip()
            held.close()
            raise in_use(self._folder, owner) from None
        try:
            held.seek(0)
            held.truncate()
            held.write(f"process {os.getpid()}")
            held.flush()
        except OSError as error:
            with contextlib.suppress(OSError):  # it tries to write again
                held.close()
            raise self._refused(error) from error
        self._held = held

    def _refused(self, error: OSError) -> GandtError:
        return disk.of_os_error(error, f"the vector store in {self._folder}") or PermissionDenied(
            f"the vector store in {self._folder} cannot be read or written: {error.strerror}",
            reason="FOLDER_NOT_WRITABLE",
            fix="make the folder with all in it readable and writable, or choose another data_dir",
        )

    @contextmanager
    def _unfinished(self, name: str) -> Iterator[None]:
        """Notes a collection that is being made or removed; when that fails, or the process ends, the note stays."""
        self._sweep()  # there is one note
        note = self._folder / UNFINISHED
        try:
            with note.open("w") as file:
                file.write(name)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # nothing has begun
            with contextlib.suppress(OSError):
                note.unlink(missing_ok=True)
            raise self._refused(error) from error
        yield
        note.unlink()

    def _sweep(self) -> None:
        """Remove what a making or a removing that did not finish has left. Nobody could use it since.

        Raises:
            WrongState: the disk is full or read-only.
            PermissionDenied: it cannot be removed.
        """
        note = self._folder / UNFINISHED
        try:
            if not note.exists():
                return
            name = note.read_text()
            if name.replace("_", "a").isalnum():
                log.warning("collection %s was neither there nor gone and is removed", name)
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(self._database / "collections" / name)
            note.unlink()
        except OSError as error:
            raise self._refused(error) from error

    def _stored(self, name: str) -> StoredCollection | None:
        known = milvus.describe(self._client, name)
        if known is None:
            log.warning("collection %s in %s was not made by this service and is left alone", name, self._database)
            return None
        self._known[name] = known
        self._client.load_collection(name)
        items = milvus.count(self._client, name)
        aliases = milvus_aliases.aliases_of(self._client, name)
        return StoredCollection(name, known.dim, known.model_id, items, known.generation, aliases)

    def _sync_folder(self, *parts: str) -> None:
        """Names that Lite has put into a folder of its database reach the disk, where that is asked for."""
        if self._durability == "fsync":
            sync(self._database.joinpath(*parts))

    def _flush_when_due(self, name: str, rows: int) -> None:
        self._unflushed[name] = self._unflushed.get(name, 0) + rows
        if self._unflushed[name] >= self._flush_rows:
            self._client.flush(name)
            self._unflushed[name] = 0

    def _release(self, client: Any) -> None:
        from milvus_lite.server_manager import server_manager_instance

        try:
            with self._translated("flush"):
                for name in [name for name, rows in self._unflushed.items() if rows]:
                    client.flush(name)
                self._unflushed.clear()
        finally:
            client.close()
            server_manager_instance.release_server(str(self._database))

    def _translated(self, what: str) -> AbstractContextManager[None]:
        return milvus.translated(what, str(self._folder), "milvus-lite")
