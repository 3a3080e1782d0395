# SPDX-License-Identifier: GPL-3.0-or-later
"""The approximate index beside a resident table: what a search sees while it is built, changed and rewritten."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gandt.adapters import resident_table
from gandt.adapters.memory_vectors import NoJournal
from gandt.adapters.resident_index import ResidentIndex, Rows
from gandt.adapters.resident_table import ResidentTable
from gandt.adapters.resident_vectors import ResidentVectors
from gandt.domain.filters import Ids, Range
from gandt.domain.search_records import ItemSet, NearestQuery, SearchAnswer
from gandt.domain.vectors import VectorSet

DIM = 16
ROWS = 3000


def items(start: int, stop: int, seed: int = 0) -> ItemSet:
    rng = np.random.default_rng([seed, start])
    matrix = rng.normal(size=(stop - start, DIM)).astype(np.float32)
    fields = tuple({"n": number} for number in range(start, stop))
    return ItemSet(VectorSet([f"i{number:05d}" for number in range(start, stop)], matrix, "m"), fields)


class Watched(ResidentIndex):
    """Says when its builder finds nothing to do."""

    def __init__(self, dim: int, above_rows: int) -> None:
        super().__init__(dim, above_rows)
        self.idle = threading.Event()

    def _is_behind(self, rows: Rows) -> bool:
        behind = super()._is_behind(rows)
        if not behind:
            self.idle.set()
        return behind


@pytest.fixture(scope="module", autouse=True)
def _watched() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resident_table, "ResidentIndex", Watched)
        yield


def settled(table: ResidentTable) -> ResidentTable:
    """The table, once its index has all rows."""
    index = index_of(table)
    while True:
        with index._changed:
            if index._epoch == table.view.epoch and index._done >= table.view.size:
                return table
            index.idle.clear()
        assert index.idle.wait(60)


def index_of(table: ResidentTable) -> Watched:
    assert isinstance(table._index, Watched)
    return table._index


def ids(answer: SearchAnswer) -> list[list[str]]:
    return [[hit.image_id for hit in hits.hits] for hits in answer.results]


def recall(table: ResidentTable, queries: NDArray[np.float32], k: int = 10) -> float:
    """Share of the true neighbors that the index finds; it must have answered."""
    answer = table.nearest(NearestQuery(queries, k), "m")
    assert (answer.exact, answer.index) == (False, "hnsw")
    truth = table.nearest(NearestQuery(queries, k, exact=True), "m")
    assert (truth.exact, truth.index) == (True, "resident")
    pairs = zip(ids(answer), ids(truth), strict=True)
    return float(np.mean([len(set(got) & set(true)) / k for got, true in pairs]))


QUERIES = np.random.default_rng(7).normal(size=(40, DIM)).astype(np.float32)


@pytest.fixture
def table() -> Iterator[ResidentTable]:
    made = ResidentTable(DIM)
    made.append(items(0, ROWS), 1)
    made.index_above(1000)
    yield settled(made)
    made.close()


def test_neighbors_are_found_with_exact_scores(table: ResidentTable) -> None:
    assert recall(table, QUERIES) > 0.98
    answer = table.nearest(NearestQuery(QUERIES, 10), "m")
    assert 10 <= answer.candidates < ROWS / 10  # those that the graph proposed
    truth = table.nearest(NearestQuery(QUERIES, 10, exact=True), "m")
    for got, true in zip(answer.results, truth.results, strict=True):
        scores = {hit.image_id: hit.score for hit in true.hits}
        assert all(scores.get(hit.image_id, hit.score) == hit.score for hit in got.hits)


def test_few_rows_are_searched_exactly() -> None:
    small = ResidentTable(DIM)
    small.append(items(0, 1000), 1)
    small.index_above(1000)
    assert small.nearest(NearestQuery(QUERIES, 10), "m").exact
    small.close()


def test_rows_are_found_the_moment_they_are_appended_and_not_after_they_are_removed(table: ResidentTable) -> None:
    for start in range(ROWS, ROWS + 200, 10):
        fresh = items(start, start + 10)
        table.append(fresh, start)
        found = table.nearest(NearestQuery(np.asarray(fresh.vectors.matrix), 1), "m")
        assert ids(found) == [[image_id] for image_id in fresh.ids]
    settled(table)
    gone = items(ROWS, ROWS + 10)
    table.remove(list(gone.ids), 9999)
    found = table.nearest(NearestQuery(np.asarray(gone.vectors.matrix), 5), "m")
    assert found.index == "hnsw"
    assert not set(gone.ids) & {image_id for hits in ids(found) for image_id in hits}
    assert all(len(hits) == 5 for hits in ids(found))


def test_replaced_items_are_found_where_they_are_now(table: ResidentTable) -> None:
    table.append(items(0, 500, seed=1), 2)
    settled(table)
    assert recall(table, QUERIES) > 0.98
    moved = items(0, 500, seed=1)
    answer = table.nearest(NearestQuery(np.asarray(moved.vectors.matrix[:20]), 1), "m")
    assert answer.index == "hnsw"
    assert ids(answer) == [[image_id] for image_id in moved.ids[:20]]


def test_a_rewritten_table_is_indexed_anew(table: ResidentTable) -> None:
    table.remove(list(items(0, 1200).ids), 2)  # more than a quarter: the rows get other numbers
    assert table.view.size == ROWS - 1200
    settled(table)
    assert recall(table, QUERIES) > 0.98


@pytest.mark.parametrize("keep", [300, 30, 6])
def test_filtered_searches_are_exact_and_complete(table: ResidentTable, keep: int) -> None:
    answer = table.nearest(NearestQuery(QUERIES, 10, condition=Range("n", lt=keep)), "m")
    assert answer.exact
    assert all(len(hits) == min(10, keep) for hits in ids(answer))
    named = table.nearest(NearestQuery(QUERIES, 10, condition=Ids(("i00001", "nowhere"))), "m")
    assert ids(named) == [["i00001"]] * len(QUERIES)


@settings(deadline=None)
@given(k=st.sampled_from([1, 10, 400, 4000]), removed=st.integers(0, 40), seed=st.integers(0, 50))
def test_there_are_always_as_many_hits_as_can_be(shared: ResidentTable, k: int, removed: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    excluded = frozenset(f"i{number:05d}" for number in rng.integers(0, ROWS, removed).tolist())
    query = NearestQuery(rng.normal(size=(2, DIM)).astype(np.float32), k, excluded=(excluded, frozenset()))
    first, second = ids(shared.nearest(query, "m"))
    assert not excluded & set(first)
    assert (len(first), len(second)) == (min(k, ROWS - len(excluded)), min(k, ROWS))


@pytest.fixture(scope="module")
def shared() -> Iterator[ResidentTable]:
    made = ResidentTable(DIM)
    made.append(items(0, ROWS), 1)
    made.index_above(1000)
    yield settled(made)
    made.close()


def test_searches_while_a_writer_appends_miss_nothing_that_was_there(table: ResidentTable) -> None:
    wrong: list[str] = []
    ended = threading.Event()

    def read() -> None:
        known = items(0, 20)
        while not ended.is_set():
            found = ids(table.nearest(NearestQuery(np.asarray(known.vectors.matrix), 1), "m"))
            wrong.extend(want for want, hits in zip(known.ids, found, strict=True) if hits != [want])

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for start in range(ROWS, ROWS + 600, 50):
        table.append(items(start, start + 50), start)
    settled(table)
    ended.set()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_memory_of_the_index_is_counted(table: ResidentTable) -> None:
    plain = ResidentTable(DIM)
    plain.append(items(0, ROWS), 1)
    assert table.bytes > plain.bytes + ROWS * DIM


def test_a_deleted_collection_and_a_closed_store_end_their_builders() -> None:
    before = set(threading.enumerate())
    store = ResidentVectors(NoJournal(), approximate_above_rows=1000)
    for name in ("a", "b"):
        store.create_collection(name, DIM, "m")
        store.upsert(name, items(0, ROWS))
        store.nearest(name, NearestQuery(QUERIES, 1))
    assert len({thread for thread in threading.enumerate() if thread.name == "gandt-index"} - before) == 2
    store.delete_collection("a")
    assert len({thread for thread in threading.enumerate() if thread.name == "gandt-index"} - before) == 1
    store.close()
    assert not {thread for thread in threading.enumerate() if thread.name == "gandt-index"} - before


def test_a_least_score_does_not_hide_that_the_graph_reached_too_little(table: ResidentTable) -> None:
    index = index_of(table)
    graph = index._graph

    class Short:
        def search(self, *args: object, **kwargs: object) -> object:
            scores, rows = graph.search(*args, **kwargs)
            rows[:, 3:] = -1  # as a graph that is not connected
            return scores, rows

    index._graph = Short()
    answer = table.nearest(NearestQuery(QUERIES, 10, min_score=-1.0), "m")
    index._graph = graph
    assert (answer.exact, answer.index) == (True, "resident")
    assert all(len(hits) == 10 for hits in ids(answer))


def test_without_faiss_every_search_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    plain = ResidentTable(DIM)
    plain.append(items(0, ROWS), 1)
    plain.index_above(1000)
    plain.close()
    assert plain.nearest(NearestQuery(QUERIES, 10), "m").exact


@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 300), min_size=1, max_size=40)), max_size=12))
def test_scans_are_in_id_order_after_any_changes(changes: list[tuple[bool, list[int]]]) -> None:
    table = ResidentTable(2)
    table.append(ItemSet(VectorSet([f"i{number}" for number in range(0, 300, 3)], np.ones((100, 2), np.float32))), 0)
    living = {f"i{number}" for number in range(0, 300, 3)}
    for is_removal, numbers in changes:
        named = list(dict.fromkeys(f"i{number}" for number in numbers))
        if is_removal:
            named = [image_id for image_id in named if image_id in living]
            table.remove(named, 1)
            living -= set(named)
        else:
            table.append(ItemSet(VectorSet(named, np.ones((len(named), 2), np.float32))), 1)
            living |= set(named)
        view = table.view
        assert view.ids(view.ordered(view.corpus(None, {}).keep).tolist()) == sorted(living)


def test_searches_use_the_graph_at_the_same_time(table: ResidentTable) -> None:
    index = index_of(table)
    graph, both_inside = index._graph, threading.Barrier(2)

    class Meeting:
        def search(self, *args: object, **kwargs: object) -> object:
            both_inside.wait(60)
            return graph.search(*args, **kwargs)

    index._graph = Meeting()
    answers: list[SearchAnswer] = []
    threads = [
        threading.Thread(target=lambda: answers.append(table.nearest(NearestQuery(QUERIES[:1], 10), "m")))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    index._graph = graph
    assert [answer.index for answer in answers] == ["hnsw", "hnsw"]
    assert ids(answers[0]) == ids(answers[1])
