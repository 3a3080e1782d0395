# SPDX-License-Identifier: GPL-3.0-or-later
"""Milvus Lite made safe against the loss of power.

Lite leaves its log to the operating system's cache and syncs only manifests, so that a manifest could outlive the
files it names. It has a mode that syncs its log with every batch and no way to ask for it; so its log class and its
writers of segments are wrapped here, for chosen folders. Syncing in Lite's own order, and not after its calls,
leaves no moment in which an acknowledged row is on no disk.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gandt.adapters.fsync import sync as sync
from gandt.domain.errors import BackendUnavailable

_folders: set[str] = set()
_lock = threading.Lock()


def sync_writes_below(folder: Path) -> None:
    """From now on Lite syncs what it writes below a folder. Call it before the database is opened.

    Raises:
        BackendUnavailable: this version of Lite cannot be made to.
    """
    with _lock:
        _wrap_lite()
        _folders.add(str(folder.absolute()) + os.sep)


def sync_file(path: Path) -> None:
    """A file's content to the disk, and its name."""
    sync(path)
    sync(path.parent)


def _chosen(path: str) -> bool:
    return path.startswith(tuple(_folders))


def _wrap_lite() -> None:
    try:
        from milvus_lite import db
        from milvus_lite.engine import collection, compaction, flush
        from milvus_lite.storage.wal import SYNC_MODES, WAL

        if collection.WAL is not WAL:
            return  # wrapped already
        writers = [(flush, "write_data_file"), (flush, "write_delta_file"), (compaction, "write_data_file")]
        wrapped = [(module, name, _syncing(getattr(module, name))) for module, name in writers]
        if "batch" not in SYNC_MODES or not hasattr(db.MilvusLite, "_save_aliases"):
            raise AttributeError("its log has no mode that syncs")
    except (ImportError, AttributeError) as error:
        raise BackendUnavailable(
            f"durability fsync does not know this version of milvus-lite: {error}",
            backend="milvus-lite",
            reason="VECTOR_STORE_FAILED",
            fix="install the version of requirements.lock, or set durability to process",
        ) from error

    class SyncedWAL(WAL):  # type: ignore[misc, unused-ignore]
        def __init__(self, wal_dir: str, *args: Any, **options: Any) -> None:
            self._new_names = _chosen(wal_dir)
            super().__init__(wal_dir, *args, **{**options, "sync_mode": "batch"} if self._new_names else options)
            if self._new_names:
                sync(Path(wal_dir).parent)

        def write_insert(self, record_batch: Any) -> None:
            first = self.data_path is None
            super().write_insert(record_batch)
            self._sync_name(first)

        def write_delete(self, record_batch: Any) -> None:
            first = self.delta_path is None
            super().write_delete(record_batch)
            self._sync_name(first)

        def _sync_name(self, first: bool) -> None:
            if first and self._new_names:
                sync(Path(self.wal_dir))

    collection.WAL = SyncedWAL
    db.MilvusLite._save_aliases = _syncing_aliases(db.MilvusLite._save_aliases)
    for module, name, function in wrapped:
        setattr(module, name, function)


def _syncing(write: Callable[..., str]) -> Callable[..., str]:
    """A writer of a segment that syncs it before the manifest can name it."""

    def synced(table: Any, partition_dir: str, *args: Any, **options: Any) -> str:
        relative = write(table, partition_dir, *args, **options)
        if _chosen(partition_dir):
            path = Path(partition_dir) / relative
            sync_file(path)
            for folder in list(path.parents)[1:4]:  # the partition's, the partitions', the collection's
                sync(folder)
        return relative

    return synced


def _syncing_aliases(save: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    """Lite replaces its file of aliases without syncing it first: after a loss of power it could be empty."""

    def synced(database: Any, name: str) -> None:
        path = Path(database._aliases_path(name))
        if not _chosen(str(path)):
            save(database, name)
            return
        new = path.with_name(path.name + ".tmp")
        with new.open("w", encoding="utf-8") as file:
            json.dump(database._aliases(name), file, ensure_ascii=False, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
        sync(path.parent)

    return synced
