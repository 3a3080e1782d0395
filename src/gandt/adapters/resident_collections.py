# SPDX-License-Identifier: GPL-3.0-or-later
"""Which collections are in memory: opened from proven snapshots or from the journal, kept within a limit."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gandt.adapters.resident_journal import HALF_DELETED, Journal, StoredCollection, half_deleted
from gandt.adapters.resident_table import ResidentTable
from gandt.domain.collections import check_new_name, check_no_alias, check_same
from gandt.domain.errors import CorruptData, GandtError, NotFound, WrongState
from gandt.domain.search_records import Collection

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Resident:
    """A collection in memory; who changes it holds `writer`."""

    name: str
    model_id: str
    dim: int
    table: ResidentTable
    writer: threading.Lock


class ResidentCollections:
    """The collections of one journal, by name and alias. Thread-safe.

    Args:
        journal: where they are durable.
        max_bytes: most bytes of vectors and of their indexes to hold in memory, over all collections.
        approximate_above_rows: collections of more rows get an approximate index; 0 for none.
    """

    def __init__(self, journal: Journal, max_bytes: int, approximate_above_rows: int) -> None:
        self._journal = journal
        self._limit = max_bytes
        self._approximate_above = approximate_above_rows
        self._collections: dict[str, Resident] = {}
        self._aliases: dict[str, str] = {}  # alias -> name of its collection
        self._suspects: set[str] = set()  # collections whose last write failed
        self._half_deleted: dict[str, int] = {}  # collections that are nobody's any more, and how many items they had
        self._lock = threading.RLock()  # the list of collections, opening and closing
        self._opened = False
        self._closed = False
        self._opening: threading.Thread | None = None  # of the journal, while snapshots already answer
        self._unwritable: GandtError | None = None
        self.snapshots = journal.snapshots()

    def open(self) -> None:
        """See VectorStore."""
        with self._lock:
            self._refuse_closed()
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

    def _refuse_closed(self) -> None:
        if self._closed:
            raise WrongState("the vector store is closed", kind="store", state="closed", reason="STORE_CLOSED")

    def close(self) -> None:
        """See VectorStore."""
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
            if self.snapshots is not None:
                self.snapshots.close({name: resident.table.view for name, resident in self._collections.items()})

    def all(self) -> list[Resident]:
        """All of them, by name."""
        self.open()
        with self._lock:
            return sorted(self._collections.values(), key=lambda resident: resident.name)

    def create(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """Make one, or find the same again; an alias leads to it from now on. Raises as the port."""
        self._await_journal()
        with self._lock:
            self._refuse_closed()  # while we waited
            check_new_name(name, alias, self._collections, self._aliases)
            known = self._collections.get(name)
            if known is None:
                self._journal.create(name, dim, model_id)
                self._half_deleted.pop(name, None)  # the journal has first removed what was left
                known = self._collections[name] = Resident(name, model_id, dim, ResidentTable(dim), threading.Lock())
                self._take_snapshot(known)
            check_same(Collection(known.name, known.dim, known.model_id), dim, model_id)
            if alias and self._aliases.get(alias) != name:
                self._journal.point_alias(alias, name)
                self._aliases[alias] = name
            return self.describe(known)

    def delete(self, name: str) -> int:
        """Remove one with its aliases; how many items it had. Raises as the port."""
        self._await_journal()
        with self._lock:
            check_no_alias(name, self._aliases)
            if name in self._half_deleted:
                self._journal.drop(name)
                return self._half_deleted.pop(name)
        with self.writing(name) as resident, self._lock:
            try:
                self._journal.drop(name)
            except GandtError as error:
                if error.reason == HALF_DELETED:
                    self._half_deleted[name] = resident.table.view.items
                    self._forget(resident)
                raise
            self._forget(resident)
        return resident.table.view.items

    def _forget(self, resident: Resident) -> None:
        name = resident.name
        if self.snapshots is not None:
            self.snapshots.drop(name)
        del self._collections[name]
        self._aliases = {alias: target for alias, target in self._aliases.items() if target != name}
        self._suspects.discard(name)
        resident.table.close()

    def find(self, name: str) -> Resident:
        """One by its name or an alias; read again where its last write failed. Raises NotFound, WrongState."""
        self.open()
        with self._lock:
            name = self._aliases.get(name, name)
            if name in self._half_deleted:
                raise half_deleted(name)
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

    def describe(self, resident: Resident) -> Collection:
        """What it holds now."""
        view = resident.table.view
        with self._lock:
            aliases = sorted(alias for alias, name in self._aliases.items() if name == resident.name)
        return Collection(resident.name, resident.dim, resident.model_id, view.items, view.generation, tuple(aliases))

    @contextmanager
    def writing(self, name: str) -> Iterator[Resident]:
        """The collection, with its writer lock held."""
        self._await_journal()
        while True:
            resident = self.find(name)
            with resident.writer:
                if self.find(name) is resident:  # not deleted or read again while we waited
                    yield resident
                    return

    @contextmanager
    def suspecting(self, name: str) -> Iterator[None]:
        """When a write fails half way, memory is read from the journal again before anybody sees it."""
        try:
            yield
        except BaseException:
            with self._lock:
                self._suspects.add(name)
            raise

    def make_room(self, resident: Resident, rows: int) -> None:
        """Raises WrongState when so many rows more do not fit into memory, also after a rewrite."""
        try:
            self._check_limit(resident.name, resident.dim, rows)
        except WrongState:
            resident.table.compact(force=True)
            self._check_limit(resident.name, resident.dim, rows)

    def _check_limit(self, name: str, dim: int, rows: int, instead: bool = False) -> None:
        """Args: instead: the rows come in place of those that the collection has now."""
        with self._lock:
            others = [one for one in self._collections.values() if not instead or one.name != name]
            used = sum(resident.table.bytes for resident in others)
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

    # ---- opening and reading ----

    def _await_journal(self) -> None:
        """Writes wait until the journal is open. Raises why it does not open."""
        self.open()
        if self._opening is not None:
            self._opening.join()
        if self._unwritable is not None:
            raise self._unwritable

    def _restore(self) -> bool:
        """Take the journal, and memory from snapshots where they are proven to hold what it does."""
        seen = self._journal.hold()
        if self.snapshots is None or seen is None:
            return False
        restored = self.snapshots.restore(set(seen.names), self._limit)
        if not restored or sum(found.table.bytes for found in restored) > self._limit:
            return False
        for found in restored:
            resident = Resident(found.name, found.model_id, found.dim, found.table, threading.Lock())
            self._collections[found.name] = resident
        self._aliases |= seen.aliases
        return True

    def _open_journal(self) -> None:
        """Memory is loaded from the journal; snapshots are written anew in the background."""
        self._collections.clear()
        for stored in self._journal.open():
            self._collections[stored.name] = self._loaded(stored)
            self._aliases |= dict.fromkeys(stored.aliases, stored.name)
        if self.snapshots is not None:
            self.snapshots.begin_session(())
        for resident in self._collections.values():
            self._take_snapshot(resident)

    def _open_behind(self) -> None:
        """In a thread: open the journal behind restored collections. When that fails they can be read still."""
        try:
            stored = self._journal.open()
            assert self.snapshots is not None
            self.snapshots.begin_session([collection.name for collection in stored])
            for collection in stored:
                self._compare(collection)
            self._unwritable = None
        except GandtError as error:
            log.error("vectors can be read from a snapshot, but not written: %s", error)
            self._unwritable = error

    def _compare(self, stored: StoredCollection) -> None:
        """Give a restored collection what was stored but not acknowledged; read it anew when it still differs."""
        assert self.snapshots is not None
        resident = self._collections[stored.name]
        table = resident.table
        newer = self._journal.newer(stored.name, table.view.generation)
        if newer is not None and len(newer[0]):
            items, generation = newer
            table.append(items, generation)
            self.snapshots.note_upsert(stored.name, items, generation, table.view)
        table.advance(max(table.view.generation, stored.generation))
        if newer is None or table.view.items != stored.items:
            log.warning("the snapshot of collection %s is ignored: its store holds something else", stored.name)
            self._put(self._loaded(stored))  # readers have the snapshot until it is read

    def _take_snapshot(self, resident: Resident) -> None:
        if self.snapshots is not None:
            self.snapshots.replace(resident.name, resident.dim, resident.model_id, resident.table.view)

    def _loaded(self, stored: StoredCollection) -> Resident:
        """A collection as the journal has it. Raises WrongState, CorruptData."""
        self._check_limit(stored.name, stored.dim, stored.items, instead=True)
        resident = self._read(stored.name, stored.dim, stored.model_id, stored.generation)
        if resident.table.view.items != stored.items:
            raise CorruptData(
                f"collection {stored.name} holds {resident.table.view.items} items, its store counts {stored.items}",
                kind="collection",
                id=stored.name,
                reason="COUNT_MISMATCH",
                fix="restore the folder from a backup, or delete the collection and embed again",
            )
        return resident

    def _reload(self, name: str) -> None:
        """Read one collection again; the store's lock is held."""
        old = self._collections[name]
        # one generation more: what the failed write may have left behind
        self._put(self._read(name, old.dim, old.model_id, old.table.view.generation + 1))
        self._suspects.discard(name)

    def _read(self, name: str, dim: int, model_id: str, generation: int) -> Resident:
        """All items of the journal, at this generation or the largest among them."""
        table = ResidentTable(dim)
        for items, newest in self._journal.load(name):
            table.append(items, 0)
            generation = max(generation, newest)
        table.advance(generation)
        return Resident(name, model_id, dim, table, threading.Lock())

    def _put(self, resident: Resident) -> None:
        """In place of the collection of the same name, whose readers keep what they have."""
        with self._lock:
            old = self._collections[resident.name]
            self._collections[resident.name] = resident
            self._take_snapshot(resident)
            resident.table.index_above(self._approximate_above)
        old.table.close()
