# SPDX-License-Identifier: GPL-3.0-or-later
"""The VectorStore that answers from memory and writes through to a journal.

The journal is the truth: a change reaches memory after the journal has it, and memory is loaded from it. Where
proven snapshots hold the same, reads are answered from them while the journal is still being opened; writes wait.
One writer lock a collection; readers take no part in it.
"""

from __future__ import annotations

import bisect
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.adapters.resident_journal import Journal, StoredCollection
from gandt.adapters.resident_table import ResidentTable, View
from gandt.domain.collections import check_new_name, check_no_alias, check_same
from gandt.domain.errors import CorruptData, GandtError, NotFound, WrongState
from gandt.domain.filters import Filter, ids_in
from gandt.domain.near_duplicates import MatrixView
from gandt.domain.search import Corpus
from gandt.domain.search_records import (
    Collection,
    Deleted,
    Found,
    ItemSet,
    NearestQuery,
    Scan,
    SearchAnswer,
)
from gandt.domain.vectors import VectorSet

log = logging.getLogger(__name__)

DEFAULT_RESIDENT_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class _Resident:
    name: str
    model_id: str
    dim: int
    table: ResidentTable
    writer: threading.Lock


class ResidentVectors:
    """Collections in memory over a journal.

    Args:
        journal: where they are durable.
        max_resident_bytes: most bytes of vectors and of their indexes to hold in memory, over all collections.
        approximate_above_rows: collections of more rows get an approximate index; 0 for none.
    """

    def __init__(
        self, journal: Journal, max_resident_bytes: int = DEFAULT_RESIDENT_BYTES, approximate_above_rows: int = 0
    ) -> None:
        self._journal = journal
        self._limit = max_resident_bytes
        self._approximate_above = approximate_above_rows
        self._collections: dict[str, _Resident] = {}
        self._aliases: dict[str, str] = {}  # alias -> name of its collection
        self._suspects: set[str] = set()  # collections whose last write failed
        self._lock = threading.RLock()  # the list of collections, opening and closing
        self._opened = False
        self._closed = False
        self._snapshots = journal.snapshots()
        self._opening: threading.Thread | None = None  # of the journal, while snapshots already answer
        self._unwritable: GandtError | None = None

    def open(self) -> None:
        """See the port."""
        with self._lock:
            if self._closed:
                raise WrongState("the vector store is closed", kind="store", state="closed", reason="STORE_CLOSED")
            if self._opened:
                return
            try:
                if self._restore():
                    self._unwritable = WrongState(  # until the thread has done all of its work
                        "the vector store did not come up", kind="store", state="failed", reason="STORE_CLOSED"
                    )
                    self._opening = threading.Thread(target=self._open_behind, name="open-journal")
                    self._opening.start()
                else:
                    self._open_journal()
            except BaseException:
                self._collections.clear()
                self._aliases.clear()
                self._journal.close()
                self._journal.release()
                raise
            self._opened = True
            for resident in self._collections.values():
                resident.table.index_above(self._approximate_above)

    def close(self) -> None:
        """See the port."""
        with self._lock:
            self._closed = True
            if not self._opened:
                return
            self._opened = False
            collections = list(self._collections.values())
        for resident in collections:
            resident.table.close()
        if self._opening is not None:
            self._opening.join()
        with ExitStack() as writers:  # running writes end first; waiting ones then learn that the store is closed
            writers.callback(self._journal.release)
            for resident in collections:
                writers.enter_context(resident.writer)
            self._journal.close()
            if self._snapshots is not None:
                self._snapshots.close({name: resident.table.view for name, resident in self._collections.items()})

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """See the port."""
        self._await_journal()
        with self._lock:
            check_new_name(name, alias, self._collections, self._aliases)
            known = self._collections.get(name)
            if known is None:
                self._journal.create(name, dim, model_id)
                known = self._collections[name] = _Resident(name, model_id, dim, ResidentTable(dim), threading.Lock())
                self._take_snapshot(known)
            check_same(Collection(known.name, known.dim, known.model_id), dim, model_id)
            if alias and self._aliases.get(alias) != name:
                self._journal.point_alias(alias, name)
                self._aliases[alias] = name
            return self._described(known)

    def get_collection(self, name: str) -> Collection:
        """See the port."""
        return self._described(self._resident(name))

    def list_collections(self) -> list[Collection]:
        """See the port."""
        self.open()
        with self._lock:
            residents = sorted(self._collections.values(), key=lambda resident: resident.name)
        return [self._described(resident) for resident in residents]

    def delete_collection(self, name: str) -> int:
        """See the port."""
        self._await_journal()
        with self._lock:
            check_no_alias(name, self._aliases)
        with self._writing(name) as resident, self._lock:
            self._journal.drop(name)
            if self._snapshots is not None:
                self._snapshots.drop(name)
            del self._collections[name]
            self._aliases = {alias: target for alias, target in self._aliases.items() if target != name}
            self._suspects.discard(name)
        resident.table.close()
        return resident.table.view.items

    def upsert(self, name: str, items: ItemSet) -> int:
        """See the port."""
        with self._writing(name) as resident:
            table = resident.table
            changed = table.changed(items)
            if not len(changed):
                return table.view.generation
            items = _taken(items, changed)
            self._make_room(resident, len(items))
            generation = table.view.generation + 1
            with self._suspecting(resident.name):
                self._journal.write(resident.name, items, generation)
                table.append(items, generation)
                if self._snapshots is not None:
                    self._snapshots.note_upsert(resident.name, items, generation, table.view)
            return generation

    def delete(self, name: str, ids: Sequence[str]) -> Deleted:
        """See the port."""
        with self._writing(name) as resident:
            view, rows = resident.table.look_up(ids)
            existing = tuple(dict.fromkeys(image_id for image_id in ids if image_id in rows))
            if not existing:
                return Deleted((), view.generation)
            generation = view.generation + 1
            with self._suspecting(resident.name):
                self._journal.delete(resident.name, existing, generation)
                resident.table.remove(existing, generation)
                if self._snapshots is not None:
                    self._snapshots.note_delete(resident.name, existing, generation, resident.table.view)
            return Deleted(existing, generation)

    def fetch(self, name: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """See the port."""
        resident = self._resident(name)
        view, rows = resident.table.look_up(ids)
        found = np.array([rows[image_id] for image_id in ids if image_id in rows], np.int64)
        missing = tuple(image_id for image_id in ids if image_id not in rows)
        return Found(view.items_of(found, resident.model_id, True, with_fields), missing)

    def scan(
        self,
        name: str,
        condition: Filter | None = None,
        after_id: str = "",
        block_rows: int = 1000,
        with_vectors: bool = True,
        with_fields: bool = False,
    ) -> Scan:
        """See the port."""
        resident = self._resident(name)
        view, corpus = self._corpus(resident, condition)
        rows = view.ordered(corpus.keep)
        if after_id:
            rows = rows[bisect.bisect_right(rows, after_id, key=corpus.ids.__getitem__) :]

        def blocks() -> Iterator[ItemSet]:
            for start in range(0, len(rows), block_rows):
                part = rows[start : start + block_rows]
                yield view.items_of(part, resident.model_id, with_vectors, with_fields)

        return Scan(resident.dim, view.generation, len(rows), blocks())

    def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
        """See the port."""
        resident = self._resident(name)
        resident.table.index_above(self._approximate_above)
        return resident.table.nearest(query, resident.model_id)

    def matrix(self, name: str, condition: Filter | None = None, content_field: str = "") -> MatrixView:
        """See the port."""
        resident = self._resident(name)
        view, corpus = self._corpus(resident, condition)
        rows = view.ordered(corpus.keep)
        contents = view.texts(content_field)
        return MatrixView(
            view.ids(rows.tolist()),
            lambda some: view.vectors(rows[some]),
            view.generation,
            None if contents is None else contents[rows],
        )

    # ---- inside ----

    def _resident(self, name: str) -> _Resident:
        self.open()
        with self._lock:
            name = self._aliases.get(name, name)
            if name in self._suspects:
                self._reload(name)
            resident = self._collections.get(name)
        if resident is None:
            raise NotFound(
                f"collection {name} does not exist",
                kind="collection",
                id=name,
                reason="COLLECTION_NOT_FOUND",
                fix="create it first",
            )
        return resident

    def _described(self, resident: _Resident) -> Collection:
        view = resident.table.view
        with self._lock:
            aliases = sorted(alias for alias, name in self._aliases.items() if name == resident.name)
        return Collection(resident.name, resident.dim, resident.model_id, view.items, view.generation, tuple(aliases))

    @contextmanager
    def _writing(self, name: str) -> Iterator[_Resident]:
        """The collection, with its writer lock held."""
        self._await_journal()
        while True:
            resident = self._resident(name)
            with resident.writer:
                if self._resident(name) is resident:  # not deleted or read again while we waited
                    yield resident
                    return

    @contextmanager
    def _suspecting(self, name: str) -> Iterator[None]:
        """When a write fails half way, memory is read from the journal again before anybody sees it."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._suspects.add(name)
            raise

    def _restore(self) -> bool:
        """Take the journal, and memory from snapshots where they are proven to hold what it does."""
        seen = self._journal.hold()
        if self._snapshots is None or seen is None:
            return False
        restored = self._snapshots.restore(set(seen.names), self._limit)
        if not restored or sum(found.table.bytes for found in restored) > self._limit:
            return False
        for found in restored:
            resident = _Resident(found.name, found.model_id, found.dim, found.table, threading.Lock())
            self._collections[found.name] = resident
        self._aliases |= seen.aliases
        return True

    def _open_journal(self) -> None:
        """Memory is loaded from the journal; snapshots are written anew in the background."""
        self._collections.clear()
        for stored in self._journal.open():
            self._load(stored)
            self._aliases |= dict.fromkeys(stored.aliases, stored.name)
        if self._snapshots is not None:
            self._snapshots.begin_session(())
        for resident in self._collections.values():
            self._take_snapshot(resident)

    def _open_behind(self) -> None:
        """In a thread: open the journal behind restored collections. When that fails they can be read still."""
        try:
            stored = self._journal.open()
            assert self._snapshots is not None
            self._snapshots.begin_session([collection.name for collection in stored])
            for collection in stored:
                self._compare(collection)
            self._unwritable = None
        except GandtError as error:
            log.error("vectors can be read from a snapshot, but not written: %s", error)
            self._unwritable = error

    def _compare(self, stored: StoredCollection) -> None:
        """Give a restored collection what was stored but not acknowledged; read it anew when it still differs."""
        assert self._snapshots is not None
        resident = self._collections[stored.name]
        table = resident.table
        newer = self._journal.newer(stored.name, table.view.generation)
        if newer is not None and len(newer[0]):
            items, generation = newer
            table.append(items, generation)
            self._snapshots.note_upsert(stored.name, items, generation, table.view)
        table.advance(max(table.view.generation, stored.generation))
        if newer is None or table.view.items != stored.items:
            log.warning("the snapshot of collection %s is ignored: its store holds something else", stored.name)
            with self._lock:
                del self._collections[stored.name]
                self._load(stored)
                self._collections[stored.name].table.index_above(self._approximate_above)
                self._take_snapshot(self._collections[stored.name])

    def _await_journal(self) -> None:
        """Writes wait until the journal is open. Raises why it does not open."""
        self.open()
        if self._opening is not None:
            self._opening.join()
        if self._unwritable is not None:
            raise self._unwritable

    def _take_snapshot(self, resident: _Resident) -> None:
        if self._snapshots is not None:
            self._snapshots.replace(resident.name, resident.dim, resident.model_id, resident.table.view)

    def _load(self, stored: StoredCollection) -> None:
        self._check_limit(stored.name, stored.dim, stored.items)
        table = ResidentTable(stored.dim)
        generation = stored.generation
        for items, newest in self._journal.load(stored.name):
            table.append(items, 0)
            generation = max(generation, newest)
        if table.view.items != stored.items:
            raise CorruptData(
                f"collection {stored.name} holds {table.view.items} items, its store counts {stored.items}",
                kind="collection",
                id=stored.name,
                reason="COUNT_MISMATCH",
                fix="restore the folder from a backup, or delete the collection and embed again",
            )
        table.advance(generation)
        if (old := self._collections.get(stored.name)) is not None:
            old.table.close()
        self._collections[stored.name] = _Resident(stored.name, stored.model_id, stored.dim, table, threading.Lock())

    def _make_room(self, resident: _Resident, rows: int) -> None:
        try:
            self._check_limit(resident.name, resident.dim, rows)
        except WrongState:
            resident.table.compact(force=True)
            self._check_limit(resident.name, resident.dim, rows)

    def _check_limit(self, name: str, dim: int, rows: int) -> None:
        with self._lock:
            used = sum(resident.table.bytes for resident in self._collections.values())
        needed = used + rows * (4 * dim + 5)
        if needed > self._limit:
            raise WrongState(
                f"collection {name} would need {needed:,} bytes of memory with all others, "
                f"max_resident_bytes is {self._limit:,}",
                kind="collection",
                id=name,
                state="full",
                reason="RESIDENT_MEMORY_FULL",
                fix="raise max_resident_bytes, use a Milvus server (milvus_uri), or embed with a projection to fewer "
                "dimensions",
            )

    def _reload(self, name: str) -> None:
        """Read one collection again; the store's lock is held."""
        old = self._collections[name]
        table = ResidentTable(old.dim)
        generation = old.table.view.generation + 1  # what the failed write may have left behind
        for items, newest in self._journal.load(name):
            table.append(items, 0)
            generation = max(generation, newest)
        table.advance(generation)
        self._collections[name] = _Resident(name, old.model_id, old.dim, table, threading.Lock())
        old.table.close()
        self._suspects.discard(name)
        self._take_snapshot(self._collections[name])

    def _corpus(self, resident: _Resident, condition: Filter | None) -> tuple[View, Corpus]:
        view, rows = resident.table.look_up(ids_in(condition))
        return view, view.corpus(condition, rows)


def _taken(items: ItemSet, positions: NDArray[np.int64]) -> ItemSet:
    if len(positions) == len(items):
        return items
    ids = [items.ids[position] for position in positions.tolist()]
    fields = tuple(items.fields[position] for position in positions.tolist()) if items.fields else ()
    return ItemSet(VectorSet(ids, items.vectors.matrix[positions], items.vectors.model_id), fields)
