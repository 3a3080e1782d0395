# SPDX-License-Identifier: GPL-3.0-or-later
"""One collection in memory: vectors in fixed segments, ids, and columns of fields.

Rows are only ever appended. A new version of an item is a new row, and the old one is marked dead; so a
reader holds an immutable view (a row count and the marks of that moment) and never waits for a writer
longer than a row takes to copy. When dead rows pile up the table is rewritten beside the old one.
"""

from __future__ import annotations

import threading
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.adapters.resident_index import ResidentIndex
from gandt.domain import filters
from gandt.domain.fields import Column, Kind, kind_of
from gandt.domain.filters import Filter
from gandt.domain.search import Block, Corpus, Ranked, nearest, nearest_to_examples, rescored
from gandt.domain.search_records import ExampleVectors, Fields, Hit, Hits, ItemSet, NearestQuery, SearchAnswer
from gandt.domain.vectors import VectorSet, squared_lengths

SEGMENT_BYTES = 32 << 20  # appended to without moving what is there; untouched pages cost nothing
MAX_DEAD_SHARE = 0.25
MIN_DEAD_ROWS = 1024
INSERT_SHARE = 50  # below one new row to so many, each is searched for its place in the order of ids


@dataclass(frozen=True, slots=True)
class Order:
    """Rows in id order, i64[R]: those among the first `size` that lived when it was found."""

    rows: NDArray[np.int64]
    size: int


class View:
    """The table at one moment.

    Attributes:
        generation: of the collection then.
        items: living rows.
        epoch: how often the table had been rewritten; rows of another epoch are other items.
    """

    def __init__(
        self,
        ids: list[str],
        dim: int,
        blocks: tuple[Block, ...],
        alive: NDArray[np.bool_],
        columns: dict[str, Column],
        generation: int,
        items: int,
        epoch: int = 0,
        earlier: Order | None = None,
    ) -> None:
        self._dim = dim
        self.generation = generation
        self.items = items
        self.epoch = epoch
        self._ids = ids
        self._blocks = blocks
        self._alive = alive
        self._columns = columns
        self._earlier = earlier
        self._order: Order | None = None
        self._whole = Corpus(ids, blocks, alive, keeps_all=items == len(alive))

    def corpus(self, condition: Filter | None, rows: dict[str, int]) -> Corpus:
        """What a search may find; `rows` holds the rows of all ids that the condition names."""
        if condition is None:
            return self._whole
        keep = self._alive & filters.mask(condition, len(self._alive), self._columns, rows.get)
        return Corpus(self._ids, self._blocks, keep)

    @property
    def size(self) -> int:
        """Rows, dead ones included."""
        return len(self._alive)

    @property
    def order(self) -> Order | None:
        """The order of ids that this view or an earlier one had to find."""
        return self._order or self._earlier

    def unit_vectors(self, start: int, stop: int) -> NDArray[np.float32]:
        """f32[n, D]: consecutive rows at length 1."""
        parts = []
        for block in self._blocks:
            low, high = max(start, block.start) - block.start, min(stop - block.start, len(block.matrix))
            if low < high:
                parts.append(block.matrix[low:high] * block.scales[low:high, None])
        return np.concatenate(parts) if parts else np.zeros((0, self._dim), np.float32)

    def ordered(self, keep: NDArray[np.bool_]) -> NDArray[np.int64]:
        """i64: the rows of a mask in id order."""
        if self._order is None:
            self._order = _ordered(self._ids, self._alive, self._earlier)
        rows = self._order.rows
        return rows if len(rows) == len(keep) and keep.all() else rows[keep[rows]]

    def vectors(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """f32[R, D]: copies of some rows."""
        if not len(rows):
            return np.zeros((0, self._dim), np.float32)
        return self._whole.vectors(rows)

    def ids(self, rows: Iterable[int]) -> list[str]:
        """The ids of some rows."""
        return [self._ids[row] for row in rows]

    def fields(self, row: int) -> Fields:
        """The fields of one row."""
        found = ((name, column.value(row)) for name, column in self._columns.items())
        return {name: value for name, value in found if value is not None}

    def texts(self, field: str) -> NDArray[np.int64] | None:
        """i64[rows]: a number for each text of a field, -1 for none or an empty one; None when no row has the field."""
        column = self._columns.get(field)
        if column is None:
            return None
        rows = len(self._alive)
        codes = np.where(column.kinds(rows) == Kind.TEXT, column.cells(rows), -1)
        codes[codes == column.code("")] = -1
        return codes

    def items_of(self, rows: NDArray[np.int64], model_id: str, with_vectors: bool, with_fields: bool) -> ItemSet:
        """Some rows as items."""
        matrix = self.vectors(rows) if with_vectors else np.zeros((len(rows), 0), np.float32)  # [R, D]
        fields = tuple(self.fields(row) for row in rows.tolist()) if with_fields else ()
        return ItemSet(VectorSet(self.ids(rows.tolist()), matrix, model_id), fields)

    def hits_of(self, ranked: Ranked, query: NearestQuery, model_id: str) -> Hits:
        """Ranked rows as hits, with what the query asks for."""
        rows = ranked.rows.tolist()
        hits = tuple(
            Hit(self._ids[row], score, self.fields(row) if query.with_fields else {})
            for score, row in zip(ranked.scores.tolist(), rows, strict=True)
        )
        return Hits(hits, self.items_of(ranked.rows, model_id, True, False).vectors if query.with_vectors else None)


class ResidentTable:
    """A growing table. One writer at a time; any number of readers.

    Args:
        dim: numbers in a vector.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._segment_rows = max(256, SEGMENT_BYTES // (4 * dim))
        self._lock = threading.Lock()
        self._index: ResidentIndex | None = None
        self._epoch = 0
        self._view = View([], dim, (), np.zeros(0, np.bool_), {}, 0, 0)
        self._reset()
        self._publish(0)

    def _reset(self) -> None:
        self._segments: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self._ids: list[str] = []
        self._row_of: dict[str, int] = {}
        self._alive = np.zeros(0, np.bool_)
        self._columns: dict[str, Column] = {}

    @property
    def view(self) -> View:
        """The table now."""
        return self._view

    @property
    def bytes(self) -> int:
        """Bytes of the rows held, dead ones included, and of their index (ids and fields apart)."""
        index = self._index
        return len(self._ids) * (4 * self._dim + 5) + (index.bytes if index is not None else 0)

    def index_above(self, rows: int) -> None:
        """Keep an approximate index from now on while the table has more rows than this; 0 for none."""
        if not rows or self._index is not None:
            return
        with self._lock:
            if self._index is None:
                self._index = ResidentIndex(self._dim, rows)
                self._index.follow(self._view)

    def close(self) -> None:
        """End the work on the index."""
        if self._index is not None:
            self._index.close()

    def look_up(self, ids: Iterable[str]) -> tuple[View, dict[str, int]]:
        """The table now, and the rows of those ids that it holds."""
        with self._lock:
            return self._view, {image_id: row for image_id in ids if (row := self._row_of.get(image_id)) is not None}

    def changed(self, items: ItemSet) -> NDArray[np.int64]:
        """i64: positions of the items that are not stored as they are."""
        view, rows = self.look_up(items.ids)
        known = np.array([rows.get(image_id, -1) for image_id in items.ids], np.int64)
        same = known >= 0
        if same.any():
            stored = view.vectors(known[same]).view(np.uint32)  # bit patterns: -0.0 is not 0.0
            given = np.ascontiguousarray(items.vectors.matrix[same], np.float32).view(np.uint32)
            same[same] = (stored == given).all(axis=1)
        for position in np.flatnonzero(same).tolist():
            given_fields = items.fields[position] if items.fields else {}
            same[position] = _equal(view.fields(int(known[position])), given_fields)
        return np.flatnonzero(~same)

    def nearest(self, query: NearestQuery, model_id: str, exact: bool = True, index: str = "resident") -> SearchAnswer:
        """The nearest rows to each query: from the index where there is one and it may serve, else by comparing all.

        Args:
            exact, index: what an answer that compared all says of itself.
        """
        view, rows = self.look_up(filters.ids_in(query.condition).union(*query.excluded))
        corpus = view.corpus(query.condition, rows)
        excluded = [_rows_of(ids, rows) for ids in query.excluded]
        candidates = view.items if query.condition is None else int(np.count_nonzero(corpus.keep))
        if isinstance(query.queries, ExampleVectors):
            drop = excluded[0] if excluded else None
            found = [nearest_to_examples(corpus, query.queries, query.k, query.min_score, drop)]
        elif (by_index := self._from_index(view, corpus, query, excluded)) is not None:
            found, candidates = by_index
            exact, index = False, "hnsw"
        else:
            found = nearest(corpus, query.queries, query.k, query.min_score, excluded)
        results = tuple(view.hits_of(hits, query, model_id) for hits in found)
        return SearchAnswer(results, exact, candidates, index, view.generation)

    def _from_index(
        self, view: View, corpus: Corpus, query: NearestQuery, excluded: Sequence[NDArray[np.int64]]
    ) -> tuple[list[Ranked], int] | None:
        """An unfiltered search by the index, rows beside it compared exactly; None when it cannot.

        Returns:
            The rankings, and the rows compared with a query: most of those proposed, and all beside.
        """
        index = self._index
        if index is None or query.exact or query.condition is not None or isinstance(query.queries, ExampleVectors):
            return None
        dropped = max((len(rows) for rows in excluded), default=0)
        wanted = (query.k + dropped) * view.size // max(1, view.items) + 1  # dead rows are proposed as well
        proposed = index.propose(view.epoch, view.size, query.queries, wanted)
        if proposed is None:
            return None
        rows, done = proposed
        drop = excluded or [np.zeros(0, np.int64)] * len(rows)
        beside = _beside(corpus, done, query, drop)
        out: list[Ranked] = []
        most = 0
        for number, near in enumerate(rows):
            some = near if near[-1] >= 0 else near[near >= 0]
            if not corpus.keeps_all:
                some = some[corpus.keep[some]]
            if len(drop[number]):
                some = some[~np.isin(some, drop[number])]
            most = max(most, len(some))
            if number < len(beside):
                some = np.concatenate([some, beside[number]])
            if len(some) < min(query.k, view.items - len(drop[number])):
                return None  # the graph did not reach enough living rows
            out.append(rescored(corpus, some, query.queries[number], query.k, query.min_score))
        return out, most + (int(np.count_nonzero(corpus.keep[done:])) if done < view.size else 0)

    def append(self, items: ItemSet, generation: int) -> None:
        """Insert or replace items with distinct ids."""
        with self._lock:
            start = len(self._ids)
            self._extend_alive(start + len(items))
            self._write(items.vectors.matrix, start)
            for offset, image_id in enumerate(items.ids):
                old = self._row_of.get(image_id)
                if old is not None:
                    self._alive[old] = False
                self._row_of[image_id] = start + offset
            for offset, fields in enumerate(items.fields):
                for name, value in fields.items():
                    self._columns.setdefault(name, Column()).set(start + offset, value)
            self._ids.extend(items.ids)
            self._alive[start : start + len(items)] = True
            self._publish(generation)
        self.compact()

    def remove(self, ids: Sequence[str], generation: int) -> None:
        """Forget items; each must be there."""
        with self._lock:
            for image_id in ids:
                self._alive[self._row_of.pop(image_id)] = False
            self._publish(generation)
        self.compact()

    def advance(self, generation: int) -> None:
        """Set the generation without a change."""
        with self._lock:
            self._publish(generation)

    def compact(self, force: bool = False) -> None:
        """Rewrite the table without dead rows when they are many. Only the writer calls it."""
        view = self._view
        dead = len(self._ids) - view.items
        if not dead or (not force and (dead < MIN_DEAD_ROWS or dead < MAX_DEAD_SHARE * len(self._ids))):
            return
        fresh = ResidentTable(self._dim)
        rows = np.flatnonzero(self._alive[: len(self._ids)])
        for start in range(0, len(rows), 4096):
            fresh.append(view.items_of(rows[start : start + 4096], "", True, True), view.generation)
        with self._lock:
            self._segments, self._ids, self._row_of = fresh._segments, fresh._ids, fresh._row_of
            self._alive, self._columns = fresh._alive, fresh._columns
            self._epoch += 1
            self._publish(view.generation)

    def _extend_alive(self, rows: int) -> None:
        if rows > len(self._alive):
            grown = np.zeros(max(1024, rows, 2 * len(self._alive)), np.bool_)
            grown[: len(self._alive)] = self._alive
            self._alive = grown

    def _write(self, matrix: NDArray[np.floating], start: int) -> None:
        done = 0
        while done < len(matrix):
            segment, inside = divmod(start + done, self._segment_rows)
            if segment == len(self._segments):
                room = self._segment_rows
                self._segments.append((np.empty((room, self._dim), np.float32), np.empty(room, np.float32)))
            vectors, scales = self._segments[segment]
            part = matrix[done : done + self._segment_rows - inside]
            vectors[inside : inside + len(part)] = part
            scales[inside : inside + len(part)] = 1.0 / np.sqrt(squared_lengths(part))
            done += len(part)

    def _publish(self, generation: int) -> None:
        rows, blocks = len(self._ids), []
        for number, (vectors, scales) in enumerate(self._segments):
            start = number * self._segment_rows
            used = min(self._segment_rows, rows - start)
            blocks.append(Block(start, vectors[:used], scales[:used]))
        alive = self._alive[:rows].copy()
        earlier = self._view.order if self._view.epoch == self._epoch else None
        items, columns = len(self._row_of), dict(self._columns)
        self._view = View(self._ids, self._dim, tuple(blocks), alive, columns, generation, items, self._epoch, earlier)
        if self._index is not None:
            self._index.follow(self._view)


def _ordered(ids: Sequence[str], alive: NDArray[np.bool_], earlier: Order | None) -> Order:
    """All living rows in id order, from an earlier order and the rows appended since."""
    if earlier is None:
        earlier = Order(np.zeros(0, np.int64), 0)
    old = earlier.rows[alive[earlier.rows]]
    fresh = (np.flatnonzero(alive[earlier.size :]) + earlier.size).tolist()
    fresh.sort(key=ids.__getitem__)
    if len(fresh) * INSERT_SHARE > len(old):
        rows = [*old.tolist(), *fresh]  # two runs: sorting merges them
        rows.sort(key=ids.__getitem__)
        return Order(np.array(rows, np.int64), len(alive))
    places = [bisect(old, ids[row], key=lambda row: ids[row]) for row in fresh]
    return Order(np.insert(old, places, fresh), len(alive))


def _beside(
    corpus: Corpus, done: int, query: NearestQuery, excluded: Sequence[NDArray[np.int64]]
) -> list[NDArray[np.int64]]:
    """For each query the nearest of the rows from `done` on, compared exactly; () when there are none."""
    if done >= corpus.size or isinstance(query.queries, ExampleVectors):
        return []
    blocks = []
    for block in corpus.blocks:
        skip = max(0, done - block.start)
        if skip < len(block.matrix):
            blocks.append(Block(block.start + skip - done, block.matrix[skip:], block.scales[skip:]))
    rest = Corpus(corpus.ids[done : corpus.size], tuple(blocks), corpus.keep[done:], corpus.keeps_all)
    drop = [rows[rows >= done] - done for rows in excluded]
    return [found.rows + done for found in nearest(rest, query.queries, query.k, None, drop)]


def _equal(stored: Fields, given: Fields) -> bool:
    """Whether two items have the same fields, kinds included: 1, 1.0 and True differ."""
    return stored.keys() == given.keys() and all(
        kind_of(value) == kind_of(given[name]) and value == given[name] for name, value in stored.items()
    )


def _rows_of(ids: Iterable[str], rows: dict[str, int]) -> NDArray[np.int64]:
    return np.array([rows[image_id] for image_id in ids if image_id in rows], np.int64)
