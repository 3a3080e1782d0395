# SPDX-License-Identifier: GPL-3.0-or-later
"""One collection on a Milvus server: its writes, and its reads of items. `milvus_search` has the searches."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

from gandt.adapters import milvus_client as milvus
from gandt.adapters import milvus_conditions
from gandt.adapters.memory_budget import MemoryBudget
from gandt.adapters.milvus_conditions import expression
from gandt.domain.errors import WrongState
from gandt.domain.fields import FieldValue
from gandt.domain.filters import Filter, Ids, compile_milvus
from gandt.domain.near_duplicates import MatrixView, content_numbers
from gandt.domain.search_records import Deleted, Found, ItemSet, Scan

STRONG = "Strong"
RESERVED = 1000  # generations noted at once: a note is a schema change on a server


class ServerCollection:
    """A collection of ours; this process is the only one that writes to it.

    Args:
        session: the server.
        described: as the server describes it.
        memory: for vectors that are read to be compared here.
        translated: makes errors of pymilvus ours; takes what is being done.

    Attributes:
        index_type: of its vectors; "" until somebody checked the index and loaded the collection.
    """

    def __init__(
        self,
        session: Any,
        described: milvus.Described,
        memory: MemoryBudget,
        translated: Callable[[str, str], AbstractContextManager[None]],
    ) -> None:
        self.session = session
        self.name, self.dim, self.model_id = described.name, described.dim, described.model_id
        self.index_type = ""
        self.generation = described.generation
        self._partition_field = described.partition_field
        self.memory = memory
        self._translated = translated
        self._noted = self._asked = described.generation  # the last generation noted, and asked to be noted
        self._counted = (-1, 0)  # a generation and the items in it
        self.writer = threading.Lock()

    def doing(self, what: str) -> AbstractContextManager[None]:
        """For calls of the server: their errors as ours, saying what was being done."""
        return self._translated(f"{what} collection {self.name}", self.name)

    def upsert(self, items: ItemSet) -> int:
        """See the port."""
        with self._writing("write to"):
            generation = self._next_generation()
            milvus.upsert(self.session, self.name, items, generation, self._partition_field)
            self.generation = generation
        return generation

    def delete(self, ids: Sequence[str]) -> Deleted:
        """See the port."""
        with self._writing("delete items of"):
            present = {row[milvus.ID] for row in self._rows(ids, [milvus.ID])}
            existing = tuple(image_id for image_id in dict.fromkeys(ids) if image_id in present)
            if existing:
                generation = self._next_generation()
                milvus.delete(self.session, self.name, existing)
                self.generation = generation
            return Deleted(existing, self.generation)

    def fetch(self, ids: Sequence[str], with_fields: bool) -> Found:
        """See the port."""
        columns = [milvus.ID, milvus.VECTOR, *([milvus.FIELDS] if with_fields else [])]
        with self.doing("read"):
            rows = {row[milvus.ID]: row for row in self._rows(ids, columns)}
        page = [rows[image_id] for image_id in ids if image_id in rows]
        items = milvus.items_of(page, self.dim, self.model_id, True, with_fields)
        return Found(items, tuple(image_id for image_id in ids if image_id not in rows))

    def scan(
        self, condition: Filter | None, after_id: str, block_rows: int, with_vectors: bool, with_fields: bool
    ) -> Scan:
        """See the port."""
        # The first page pins the moment of the others; no write may come between it and the count.
        with self.writer:
            generation = self.generation
            total = self.count(condition, after_id)
            blocks = self._blocks(condition, after_id, block_rows, with_vectors, with_fields)
            first = list(itertools.islice(blocks, 1))
        return Scan(self.dim, generation, total, itertools.chain(first, blocks))

    def matrix(self, condition: Filter | None, content_field: str = "") -> MatrixView:
        """See the port."""
        scan = self.scan(condition, "", milvus.PAGE_ROWS, True, bool(content_field))
        give_back = self.memory.take(scan.total, self.dim, self.name)
        try:
            matrix = np.empty((scan.total, self.dim), np.float32)
            ids: list[str] = []
            values: list[FieldValue | None] = []
            for block in scan.blocks:
                stop = len(ids) + len(block)
                if stop > len(matrix):  # Lite shows what is written meanwhile
                    matrix = np.concatenate([matrix, np.empty((stop - len(matrix), self.dim), np.float32)])
                matrix[len(ids) : stop] = block.vectors.matrix
                ids += block.ids
                values += [row.get(content_field) for row in block.fields]
        except BaseException:
            give_back()
            raise
        weakref.finalize(matrix, give_back)
        return MatrixView(ids, matrix.__getitem__, scan.generation, content_numbers(values) if content_field else None)

    def items(self) -> int:
        """Items of the collection, counted once a generation: nobody else writes."""
        generation, items = self._counted
        if generation != self.generation:
            generation = self.generation
            items = self.count()
            self._counted = (generation, items)
        return items

    def count(self, condition: Filter | None = None, after_id: str = "", consistency: str = STRONG) -> int:
        """Items that match."""
        with self.doing("count"):
            return sum(
                milvus.count(self.session, self.name, self.expression(part, after_id), consistency_level=consistency)
                for part in milvus_conditions.in_parts(condition)
            )

    def expression(self, condition: Filter | None, after_id: str = "") -> str:
        """A condition as this collection's server takes it."""
        return expression(condition, after_id, self._partition_field)

    # ---- inside ----

    def _blocks(
        self, condition: Filter | None, after_id: str, rows: int, with_vectors: bool, with_fields: bool
    ) -> Iterator[ItemSet]:
        """Items that match, in id order, of one moment."""
        columns = [milvus.ID]
        columns += [milvus.VECTOR] if with_vectors else []
        columns += [milvus.FIELDS] if with_fields else []
        fitting = max(1, milvus.MESSAGE_BYTES // (4 * self.dim + 1024))
        step = min(rows, milvus.PAGE_ROWS, fitting)
        moment: dict[str, Any] = {}
        with self.doing("read"):
            for part in milvus_conditions.in_parts(condition):
                for page in milvus.pages(
                    self.session, self.name, columns, step, part, after_id, moment, consistency_level=STRONG
                ):
                    yield milvus.items_of(page, self.dim, self.model_id, with_vectors, with_fields)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        with self.writer, self.doing(what):
            try:
                yield
            finally:
                self._counted = (-1, 0)  # also when it failed: some of it may be there

    def _next_generation(self) -> int:
        """Reserves ahead, so that after a restart generations go on above every one ever given."""
        generation = self.generation + 1
        if generation > self._noted:
            described = milvus.describe(self.session, self.name)
            if described is None or described.generation not in (self._noted, self._asked):
                raise WrongState(
                    f"another process writes to collection {self.name}",
                    kind="collection",
                    id=self.name,
                    state="other writer",
                    reason="OTHER_WRITER",
                    fix="let one instance of the service write to a server; restart this one to take over",
                )
            self._asked = generation + RESERVED
            milvus.note_generation(self.session, self.name, self._asked)
            self._noted = self._asked
        return generation

    def _rows(self, ids: Sequence[str], columns: list[str]) -> Iterator[dict[str, Any]]:
        wide = 4 * self.dim if milvus.VECTOR in columns else 0
        step = max(1, min(milvus.IDS_A_CALL, milvus.MESSAGE_BYTES // (wide + 1024)))
        distinct = tuple(dict.fromkeys(ids))

        def read(part: Sequence[str]) -> Any:
            return self.session.query(
                self.name, filter=compile_milvus(Ids(tuple(part))), output_fields=columns, consistency_level=STRONG
            )

        for start in range(0, len(distinct), step):
            for rows in milvus.in_parts(read, distinct[start : start + step]):
                yield from rows
