# SPDX-License-Identifier: GPL-3.0-or-later
"""Milvus Lite as the durable journal under the resident store.

Lite is a sound store and a slow, under filters even wrong, search engine; so it is only written to, and read
once at the start. What must be known about it is in `docs/decisions/`: always upsert (inserting is not the
same on a cluster), own escaping (pymilvus quotes ids like Python does), always `output_fields`, a flush every
10,000 rows (replaying its log is slow), one process a folder, and `release_server` (closing the client
leaves the server running). It speaks gRPC to itself over loopback, also beside our own servers.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from gandt.adapters.resident_vectors import StoredCollection
from gandt.domain.errors import BackendUnavailable, GandtError, PermissionDenied, WrongState
from gandt.domain.filters import Ids, compile_milvus
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import MAX_ID_BYTES, VectorSet

log = logging.getLogger(__name__)

FLUSH_ROWS = 10_000
WRITE_ROWS = 1000
WRITE_BYTES = 32 << 20
READ_BYTES = 64 << 20
DELETE_IDS = 1000
_MODEL = "gandt_model_id"  # properties of a collection; Lite drops descriptions and keeps these
_GENERATION = "gandt_generation"


class MilvusLiteJournal:
    """Collections in a folder, one Milvus Lite database.

    Args:
        folder: where; made when missing. It holds `milvus.db` (a folder of Lite's) and `LOCK`.
        flush_rows: rows written between flushes. More is faster to write and slower to start after a kill.
    """

    def __init__(self, folder: Path, flush_rows: int = FLUSH_ROWS) -> None:
        self._folder = folder
        self._path = str(folder.absolute() / "milvus.db")
        self._flush_rows = flush_rows
        self._client: Any = None
        self._held: TextIO | None = None
        self._unflushed: dict[str, int] = {}
        self._dims: dict[str, int] = {}
        self._lock = threading.RLock()  # Lite calls concurrent writers unsafe

    def open(self) -> list[StoredCollection]:
        """See Journal.

        Raises:
            WrongState: another process has the folder.
            PermissionDenied: the folder cannot be written.
            BackendUnavailable: Lite does not start.
        """
        with self._lock:
            self._hold()
            try:
                with self._translated("open"):
                    self._client = _quiet_client()(self._path)
                    found = [self._described(name) for name in sorted(self._client.list_collections())]
            except BaseException:
                self.close()
                raise
            return [collection for collection in found if collection is not None]

    def close(self) -> None:
        """See Journal."""
        with self._lock:
            client, self._client = self._client, None
            try:
                if client is not None:
                    self._release(client)
            finally:
                held, self._held = self._held, None
                if held is not None:
                    held.close()  # and with it the lock

    def create(self, name: str, dim: int, model_id: str) -> None:
        """See Journal."""
        from pymilvus import DataType

        with self._lock, self._translated(f"create collection {name}"):
            schema = self._client.create_schema(auto_id=False, enable_dynamic_field=False)
            schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=MAX_ID_BYTES)
            schema.add_field("gen", DataType.INT64)
            schema.add_field("fields", DataType.JSON)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
            index = self._client.prepare_index_params()
            index.add_index("vector", index_type="FLAT", metric_type="COSINE")
            properties = {_MODEL: model_id, _GENERATION: "0"}
            self._client.create_collection(name, schema=schema, index_params=index, properties=properties)
            self._dims[name] = dim

    def drop(self, name: str) -> None:
        """See Journal."""
        with self._lock, self._translated(f"delete collection {name}"):
            self._client.drop_collection(name)
            self._unflushed.pop(name, None)

    def load(self, name: str) -> Iterator[tuple[ItemSet, int]]:
        """See Journal."""
        rows = max(1, min(16_384, READ_BYTES // (4 * self._dims[name])))
        with self._lock, self._translated(f"read collection {name}"):
            self._client.load_collection(name)
            pages = self._client.query_iterator(
                name, batch_size=rows, filter="", output_fields=["id", "gen", "fields", "vector"]
            )
            try:
                while page := pages.next():
                    matrix = np.array([row["vector"] for row in page], np.float32)
                    items = ItemSet(VectorSet([row["id"] for row in page], matrix), [row["fields"] for row in page])
                    yield items, max(row["gen"] for row in page)
            finally:
                pages.close()

    def write(self, name: str, items: ItemSet, generation: int) -> None:
        """See Journal."""
        step = max(1, min(WRITE_ROWS, WRITE_BYTES // (4 * items.vectors.dim)))
        matrix = np.asarray(items.vectors.matrix, np.float32)
        with self._lock, self._translated(f"write to collection {name}"):
            for start in range(0, len(items), step):
                rows = [
                    {
                        "id": items.ids[i],
                        "gen": generation,
                        "fields": dict(items.fields[i]) if items.fields else {},
                        "vector": matrix[i],
                    }
                    for i in range(start, min(start + step, len(items)))
                ]
                self._client.upsert(name, rows)
            self._flush_when_due(name, len(items))

    def delete(self, name: str, ids: Sequence[str], generation: int) -> None:
        """See Journal."""
        with self._lock, self._translated(f"delete items of collection {name}"):
            # First the generation: deleted rows cannot carry it, and it may never run backwards.
            self._client.alter_collection_properties(name, properties={_GENERATION: str(generation)})
            for start in range(0, len(ids), DELETE_IDS):
                self._client.delete(name, filter=compile_milvus(Ids(tuple(ids[start : start + DELETE_IDS]))))
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
            raise PermissionDenied(
                f"the vector store in {self._folder} cannot be written: {error.strerror}",
                reason="FOLDER_NOT_WRITABLE",
                fix="make the folder writable, or choose another data_dir",
            ) from error
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            held.seek(0)
            owner = held.read(100).strip()
            held.close()
            raise WrongState(
                f"the vector store in {self._folder} is in use by another process" + (f" ({owner})" if owner else ""),
                kind="store",
                id=str(self._folder),
                state="in use",
                reason="IN_USE",
                fix="stop that process, or call its service instead (gandt serve, --endpoint)",
            ) from error
        held.seek(0)
        held.truncate()
        held.write(f"process {os.getpid()}")
        held.flush()
        self._held = held

    def _described(self, name: str) -> StoredCollection | None:
        described = self._client.describe_collection(name)
        properties = described["properties"]
        if _MODEL not in properties:
            log.warning("collection %s in %s was not made by this service and is left alone", name, self._path)
            return None
        dim = next(field["params"]["dim"] for field in described["fields"] if field["name"] == "vector")
        self._dims[name] = int(dim)
        self._client.load_collection(name)
        count = self._client.query(name, filter="", output_fields=["count(*)"])[0]["count(*)"]
        return StoredCollection(name, int(dim), properties[_MODEL], int(count), int(properties.get(_GENERATION, 0)))

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
            server_manager_instance.release_server(self._path)

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Errors of pymilvus, and the raw gRPC and socket errors that it lets through, as ours."""
        import grpc
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except (MilvusException, grpc.RpcError, OSError) as error:
            raise self._error(what, error) from error

    def _error(self, what: str, error: Exception) -> GandtError:
        text = str(getattr(error, "message", "") or error).splitlines()[0][:300]
        if "No space left" in str(error) or "Errno 28" in str(error):
            return WrongState(
                f"no space left to {what} in {self._folder}",
                kind="disk",
                id=str(self._folder),
                state="full",
                reason="DISK_FULL",
                fix="free some space and send the items again",
            )
        return BackendUnavailable(
            f"Milvus Lite could not {what} in {self._folder}: {text}",
            backend="milvus-lite",
            reason="VECTOR_STORE_FAILED",
            fix="retry; sending the same items again is safe",
        )


def _quiet_client() -> Any:
    """The client class, imported without its side effects.

    Importing pymilvus reads a `.env` file above its own folder and sends warnings to stderr; Lite logs
    the traceback of every refused call. What matters of them is raised, and raised errors are ours.
    """
    os.environ.setdefault("PYTHON_DOTENV_DISABLED", "1")
    from pymilvus import MilvusClient

    for name in ("pymilvus", "pymilvus.milvus_client", "milvus_lite"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [logging.NullHandler()]
        logger.setLevel(logging.CRITICAL)
        logger.propagate = False
    return MilvusClient
