# SPDX-License-Identifier: GPL-3.0-or-later
"""An approximate index beside a resident table: a navigable graph over vectors of one byte a number.

A thread of its own puts the table's rows into faiss' HNSW graph, in the order in which they were appended.
Rows that it has not reached are searched exactly beside it by the table; so nothing is ever missing for being
new. It only proposes rows: the table scores them again from the full vectors. A search never waits for the
builder: when the graph is just being changed, or is not there yet, there is no proposal and the caller
searches exactly. Where faiss is not installed that is always so.

Source: Malkov and Yashunin, Efficient and robust approximate nearest neighbor search using HNSW graphs (2016).
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import threading
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

log = logging.getLogger(__name__)

LINKS = 16  # of a row to others (twice as many on the lowest level); Milvus' default too
BUILD_WIDTH = 64  # candidates while building: 200 builds three times as long, for no measured recall
SEARCH_WIDTH = 96  # candidates while searching, at least: 64 found 0.96 to 0.98 of 100,000 x 512, 96 and 128 0.994
OVERFETCH = 10  # rows proposed beyond those asked for: bytes order near neighbors a little wrongly
MAX_WANTED = 512  # beyond, a graph search is no quicker than a product
TRAIN_ROWS = 20_000  # rows that show the range of every number
BUILD_ROWS = 512  # rows added at once while nobody uses the index
ADD_ROWS = 16  # rows added at once later: searches meanwhile are exact
MAX_BESIDE_SHARE = 0.1  # with more rows beside it than this the index is not used


class Rows(Protocol):
    """What is indexed: a table that grows at its end.

    Attributes:
        epoch: counts how often the table was rewritten; its rows are other ones then.
    """

    epoch: int

    @property
    def size(self) -> int:
        """Rows, dead ones included."""
        ...

    def unit_vectors(self, start: int, stop: int) -> NDArray[np.float32]:
        """f32[n, D]: consecutive rows at length 1."""
        ...


class ResidentIndex:
    """The index of one table.

    Args:
        dim: numbers in a vector.
        above_rows: tables of more rows are indexed.
    """

    def __init__(self, dim: int, above_rows: int) -> None:
        self._dim = dim
        self._above = above_rows
        self._graph: Any = None
        self._done = 0  # rows in the graph
        self._epoch = -1  # of the rows in the graph
        self._rows: Rows | None = None
        self._turn = threading.Condition()  # who uses the graph: some searches, or the builder
        self._searching = 0
        self._changing = False
        self._changed = threading.Condition()  # what to follow
        self._builder: threading.Thread | None = None
        self._closed = False

    @property
    def bytes(self) -> int:
        """Bytes of the rows in the graph, about."""
        return self._done * (self._dim + 10 * LINKS)

    def follow(self, rows: Rows) -> None:
        """Index these rows, of which those indexed are the first; returns at once."""
        with self._changed:
            if self._closed:
                return
            self._rows = rows
            if rows.size <= self._above:
                return
            if self._builder is None:
                self._builder = threading.Thread(target=self._build, name="gandt-index", daemon=True)
                self._builder.start()
            self._changed.notify_all()

    def close(self) -> None:
        """End the builder and let go of the rows; searches are exact from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._builder is not None:
            self._builder.join()
        with self._alone(), self._changed:
            self._graph, self._done, self._epoch, self._rows = None, 0, -1, None

    def propose(
        self, epoch: int, size: int, queries: NDArray[np.floating], wanted: int
    ) -> tuple[NDArray[np.int64], int] | None:
        """Rows that are probably near.

        Args:
            epoch, size: of the table that is searched.
            queries: [Q, D].
            wanted: rows wanted for each, apart from overfetch.
        Returns:
            (i64[Q, R] with -1 for none, rows searched: the first so many), or None when the index cannot serve.
        """
        count = wanted + OVERFETCH
        if count > MAX_WANTED:
            return None
        with self._turn:
            if self._changing:
                return None
            self._searching += 1
        try:
            done = self._done
            if self._graph is None or self._epoch != epoch or not 0 <= size - done <= MAX_BESIDE_SHARE * size:
                return None
            faiss = importlib.import_module("faiss")
            faiss.omp_set_num_threads(1)  # of this thread; more only wait for each other in small searches
            width = faiss.SearchParametersHNSW(efSearch=max(SEARCH_WIDTH, 2 * count))
            # the queries' lengths do not matter to the order
            _, found = self._graph.search(np.ascontiguousarray(queries, np.float32), count, params=width)
            return found, done
        finally:
            with self._turn:
                self._searching -= 1
                self._turn.notify_all()

    # ---- the builder's thread ----

    def _build(self) -> None:
        try:
            faiss = importlib.import_module("faiss")
        except ImportError:
            log.warning("faiss is not installed: every search is exact", extra={"fix": "pip install faiss-cpu"})
            return
        faiss.omp_set_num_threads(1)
        while (rows := self._next()) is not None:
            if self._graph is None or self._epoch != rows.epoch:
                self._begin(faiss, rows)
            start = self._done
            step = ADD_ROWS if rows.size - start <= MAX_BESIDE_SHARE * rows.size else BUILD_ROWS
            units = rows.unit_vectors(start, min(rows.size, start + step))
            with self._alone():
                self._graph.add(units)
                self._done += len(units)

    def _next(self) -> Rows | None:
        """What to add from next; waits for it. None when closed."""
        with self._changed:
            while not self._closed:
                rows = self._rows
                if rows is not None and self._is_behind(rows):
                    return rows
                self._changed.wait()
        return None

    def _is_behind(self, rows: Rows) -> bool:
        return rows.size > self._above and (rows.epoch != self._epoch or rows.size > self._done)

    def _begin(self, faiss: Any, rows: Rows) -> None:
        graph = faiss.IndexHNSWSQ(self._dim, faiss.ScalarQuantizer.QT_8bit, LINKS, faiss.METRIC_INNER_PRODUCT)
        graph.hnsw.efConstruction = BUILD_WIDTH
        graph.train(rows.unit_vectors(0, min(rows.size, TRAIN_ROWS)))
        with self._alone():
            self._graph, self._done, self._epoch = graph, 0, rows.epoch

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """The graph to oneself: searches that begin meanwhile are exact, those that run end first."""
        with self._turn:
            self._turn.wait_for(lambda: not self._changing)
            self._changing = True
            self._turn.wait_for(lambda: not self._searching)
        try:
            yield
        finally:
            with self._turn:
                self._changing = False
                self._turn.notify_all()
