# SPDX-License-Identifier: GPL-3.0-or-later
"""The VectorStore that answers from memory and writes through to a journal.

The journal is the truth: a change reaches memory after the journal has it, and memory is loaded from it. Where
proven snapshots hold the same, reads are answered from them while the journal is still being opened; writes wait.
One writer lock a collection; readers take no part in it.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.adapters.resident_collections import Resident, ResidentCollections
from gandt.adapters.resident_journal import Journal
from gandt.adapters.resident_table import View
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

DEFAULT_RESIDENT_BYTES = 4 << 30


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
        self._approximate_above = approximate_above_rows
        self._collections = ResidentCollections(journal, max_resident_bytes, approximate_above_rows)

    def open(self) -> None:
        """See the port."""
        self._collections.open()

    def close(self) -> None:
        """See the port."""
        self._collections.close()

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """See the port."""
        return self._collections.create(name, dim, model_id, alias)

    def get_collection(self, name: str) -> Collection:
        """See the port."""
        return self._collections.describe(self._collections.find(name))

    def list_collections(self) -> list[Collection]:
        """See the port."""
        return [self._collections.describe(resident) for resident in self._collections.all()]

    def delete_collection(self, name: str) -> int:
        """See the port."""
        return self._collections.delete(name)

    def upsert(self, name: str, items: ItemSet) -> int:
        """See the port."""
        with self._collections.writing(name) as resident:
            table = resident.table
            changed = table.changed(items)
            if not len(changed):
                return table.view.generation
            items = _taken(items, changed)
            self._collections.make_room(resident, len(items))
            generation = table.view.generation + 1
            with self._collections.suspecting(resident.name):
                self._journal.write(resident.name, items, generation)
                table.append(items, generation)
                if self._collections.snapshots is not None:
                    self._collections.snapshots.note_upsert(resident.name, items, generation, table.view)
            return generation

    def delete(self, name: str, ids: Sequence[str]) -> Deleted:
        """See the port."""
        with self._collections.writing(name) as resident:
            view, rows = resident.table.look_up(ids)
            existing = tuple(dict.fromkeys(image_id for image_id in ids if image_id in rows))
            if not existing:
                return Deleted((), view.generation)
            generation = view.generation + 1
            with self._collections.suspecting(resident.name):
                self._journal.delete(resident.name, existing, generation)
                resident.table.remove(existing, generation)
                if self._collections.snapshots is not None:
                    self._collections.snapshots.note_delete(resident.name, existing, generation, resident.table.view)
            return Deleted(existing, generation)

    def fetch(self, name: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """See the port."""
        resident = self._collections.find(name)
        view, rows = resident.table.look_up(ids)
        missing = tuple(image_id for image_id in ids if image_id not in rows) if len(rows) < len(ids) else ()
        found = [rows[image_id] for image_id in ids if image_id in rows] if missing else [*map(rows.__getitem__, ids)]
        return Found(view.items_of(np.array(found, np.int64), resident.model_id, True, with_fields), missing)

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
        resident = self._collections.find(name)
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
        resident = self._collections.find(name)
        resident.table.index_above(self._approximate_above)
        return resident.table.nearest(query, resident.model_id)

    def matrix(self, name: str, condition: Filter | None = None, content_field: str = "") -> MatrixView:
        """See the port."""
        resident = self._collections.find(name)
        view, corpus = self._corpus(resident, condition)
        rows = view.ordered(corpus.keep)
        contents = view.texts(content_field)
        return MatrixView(
            view.ids(rows.tolist()),
            lambda some: view.vectors(rows[some]),
            view.generation,
            None if contents is None else contents[rows],
        )

    def _corpus(self, resident: Resident, condition: Filter | None) -> tuple[View, Corpus]:
        view, rows = resident.table.look_up(ids_in(condition))
        return view, view.corpus(condition, rows)


def _taken(items: ItemSet, positions: NDArray[np.int64]) -> ItemSet:
    if len(positions) == len(items):
        return items
    ids = [items.ids[position] for position in positions.tolist()]
    fields = tuple(items.fields[position] for position in positions.tolist()) if items.fields else ()
    return ItemSet(VectorSet(ids, items.vectors.matrix[positions], items.vectors.model_id), fields)
