# SPDX-License-Identifier: GPL-3.0-or-later
"""Where vectors live: durable collections that answer searches exactly, unless they say otherwise.

Every adapter keeps these promises; one contract suite holds them to it. A write that returned is
durable against the end of the process. A read sees one moment of its collection: what is written
meanwhile shows in the next read. Batches come checked (ids, fields, sizes, finite vectors of a length
that can be compared); stores do not repeat that. Where a collection is named, an alias of it may stand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from gandt.domain.filters import Filter
from gandt.domain.near_duplicates import MatrixView
from gandt.domain.search_records import Collection, Deleted, Found, ItemSet, NearestQuery, Scan, SearchAnswer


class VectorStore(Protocol):
    """Collections of vectors. Thread-safe; one process at a time writes."""

    def open(self) -> None:
        """Takes the store and loads what searches need. Other methods do it when nobody did.

        Raises:
            WrongState: another process has it (IN_USE), or it is too large for memory (RESIDENT_MEMORY_FULL).
            CorruptData: what was loaded is not what was stored.
        """
        ...

    def close(self) -> None:
        """Flushes and lets go; a second call does nothing."""
        ...

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """A new collection, or the same one again.

        Args:
            alias: name that leads to this collection from now on, durably, and to no other; switched in one
                moment. "" leaves aliases as they are.
        Raises:
            AlreadyExists: it exists with another dim or model, its name is an alias, or the alias is a collection.
        """
        ...

    def get_collection(self, name: str) -> Collection:
        """One collection. Raises NotFound."""
        ...

    def list_collections(self) -> list[Collection]:
        """All collections, by name."""
        ...

    def delete_collection(self, name: str) -> int:
        """Removes a collection with its aliases and says how many items went with it.

        Raises:
            NotFound: no such collection.
            WrongState: the name is an alias (IS_ALIAS).
        """
        ...

    def upsert(self, name: str, items: ItemSet) -> int:
        """Inserts or replaces items; ids are distinct. Sending them again is safe.

        Args:
            items: f32[N, D] as they shall come back, bit for bit, and fields (() for none at all).
        Returns:
            The generation after them; they are durable.
        Raises:
            NotFound: no such collection.
            WrongState: no memory (RESIDENT_MEMORY_FULL) or disk is left.
            BackendUnavailable: the store failed; whether the items are there is unknown, sending them again is safe.
        """
        ...

    def delete(self, name: str, ids: Sequence[str]) -> Deleted:
        """Deletes items and says which of them existed, in the order given. Raises as `upsert`."""
        ...

    def fetch(self, name: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """Items by id, in request order; an id given twice comes twice. Raises NotFound."""
        ...

    def scan(
        self,
        name: str,
        condition: Filter | None = None,
        after_id: str = "",
        block_rows: int = 1000,
        with_vectors: bool = True,
        with_fields: bool = False,
    ) -> Scan:
        """All items that match, in id order (by code point), starting after an id. Raises NotFound."""
        ...

    def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
        """The nearest items to each query; `exact` in the answer says whether none can be missing.

        Raises:
            NotFound: no such collection.
            InvalidInput: the examples cancel each other out.
        """
        ...

    def matrix(self, name: str, condition: Filter | None = None, content_field: str = "") -> MatrixView:
        """The vectors that match, to be compared with each other.

        Args:
            content_field: text field whose equal values mean equal content; "" for none.
        Raises:
            NotFound: no such collection.
        """
        ...
