# SPDX-License-Identifier: GPL-3.0-or-later
"""The recall canary and the sizes of searches: neither costs a caller what was not asked for."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gandt_vectorsearch.searches import ByVectors, Searches
from gandt_vectorsearch.service import METRICS, RECALL_CANARY, VectorSearch

from gandt.adapters.memory_clock import ManualClock
from gandt.adapters.memory_vectors import MemoryVectors
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.domain.errors import InvalidInput, WrongState
from gandt.domain.search_records import ItemSet, NearestQuery, SearchAnswer, SearchOptions
from tests.service.test_vectorsearch.samples import vectors


class AtOnce(Executor):
    """Runs what it is given when it is given."""

    def __init__(self) -> None:
        self.ran = 0

    def submit(self, call: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.ran += 1
        done: Future[Any] = Future()
        done.set_result(call(*args, **kwargs))
        return done


class Approximate(MemoryVectors):
    """A store whose index misses the best hit; it counts the hits that it is asked for."""

    def __init__(self, index: str = "hnsw", fails: bool = False) -> None:
        super().__init__()
        self.index = index
        self.fails = fails
        self.asked: list[tuple[int, int]] = []

    def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
        assert isinstance(query.queries, np.ndarray)
        self.asked.append((len(query.queries), query.k))
        if query.exact:
            if self.fails:
                raise WrongState("no room", kind="store", reason="RESIDENT_MEMORY_FULL")
            return super().nearest(name, query)
        answer = super().nearest(name, query)
        results = tuple(replace(hits, hits=hits.hits[1:]) for hits in answer.results)
        return replace(answer, results=results, exact=False, index=self.index)


def made(store: MemoryVectors, items: int = 20) -> tuple[Searches, PrometheusMeter, AtOnce]:
    meter, threads = PrometheusMeter(METRICS), AtOnce()
    service = VectorSearch(store, meter)
    service.warm_up()
    store.create_collection("c", 8, "m")
    given = vectors(items)
    store.upsert("c", ItemSet(given, [{"g": "many"} if n < items - 2 else {"g": f"rare{n}"} for n in range(items)]))
    return Searches(store, service, meter, ManualClock(), threads), meter, threads


def recall(meter: PrometheusMeter) -> float | None:
    return meter.registry.get_sample_value(RECALL_CANARY)


def ask(searches: Searches, queries: int = 1, **options: Any) -> SearchAnswer:
    return searches.search("c", ByVectors(vectors(queries, seed=3).matrix), SearchOptions(**options))


def test_recall_is_measured_and_an_exact_answer_does_not_overwrite_it() -> None:
    searches, meter, threads = made(Approximate())
    ask(searches, k=5)
    assert recall(meter) == pytest.approx(0.8)
    ask(searches, k=5, exact=True)
    assert recall(meter) == pytest.approx(0.8)
    assert threads.ran == 1


def test_a_canary_that_fails_fails_no_search() -> None:
    searches, meter, threads = made(Approximate(fails=True))
    assert len(ask(searches, k=5).results[0].hits) == 4
    assert (threads.ran, recall(meter)) == (1, 1.0)


def test_a_server_is_not_read_whole_for_a_canary() -> None:
    store = Approximate(index="IVF_FLAT")
    searches, _, threads = made(store)
    ask(searches, k=5)
    assert threads.ran == 0
    assert len(store.asked) == 1


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1, "offset": 16_000},
        {"k": 1, "offset": 3_000, "diversity": 0.5},
        {"k": 1, "offset": 3_000, "group_by": "g"},
    ],
    ids=["offset", "diversity", "groups"],
)
def test_hits_that_are_only_looked_at_count_too(options: dict[str, Any]) -> None:
    class Huge(MemoryVectors):
        def get_collection(self, name: str) -> Any:
            return replace(super().get_collection(name), items=1_000_000)

    searches, _, _ = made(Huge())
    with pytest.raises(InvalidInput, match="the search would take") as caught:
        ask(searches, queries=1_000, **options)
    assert caught.value.reason == "ANSWER_TOO_LARGE"


def test_only_queries_without_enough_groups_are_asked_again() -> None:
    class Counting(MemoryVectors):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[int, int]] = []

        def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
            assert isinstance(query.queries, np.ndarray)
            self.asked.append((len(query.queries), query.k))
            return super().nearest(name, query)

    store = Counting()
    searches, _, _ = made(store, items=200)
    rare = vectors(200).matrix[[198, 0]]  # the first has another group at once, the second must look far
    far = -vectors(200).matrix[198:199] - vectors(200).matrix[199:200]
    matrix = np.concatenate([rare[:1], far])
    answer = searches.search("c", ByVectors(matrix), SearchOptions(k=2, group_by="g"))
    assert [len(hits.hits) for hits in answer.results] == [2, 2]
    assert store.asked[0] == (2, 8)
    assert {queries for queries, _ in store.asked[1:]} == {1}
