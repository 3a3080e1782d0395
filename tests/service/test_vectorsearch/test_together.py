# SPDX-License-Identifier: GPL-3.0-or-later
"""Many clients at once: each gets the answer, or the error, that it would have got alone."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from gandt_vectorsearch.bootstrap import assemble

from gandt.adapters.memory_vectors import MemoryVectors
from gandt.client.connection import Channel, connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import DeadlineExceeded, GandtError
from gandt.domain.filters import In, Range
from gandt.domain.search_records import ItemSet, NearestQuery, SearchAnswer, SearchOptions
from gandt.domain.vectors import VectorSet
from gandt.runtime.server import ServerThread
from gandt.wire import types
from gandt.wire import vectorsearch as wire
from gandt.wire import vectorsearch_search as search_wire

DIM = 16
CLIENTS = 24


class Gated(MemoryVectors):
    """A store whose searches wait until they are let go, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.arrived = threading.Event()
        self.sizes: list[int] = []

    def nearest(self, name: str, query: NearestQuery) -> SearchAnswer:
        self.sizes.append(1 if not isinstance(query.queries, np.ndarray) else len(query.queries))
        self.arrived.set()
        self.gate.wait(20)
        return super().nearest(name, query)


@pytest.fixture(scope="module")
def store() -> Gated:
    return Gated()


@pytest.fixture(scope="module")
def channel(store: Gated) -> Iterator[Channel]:
    rng = np.random.default_rng(3)
    with (
        ServerThread(assemble(store)) as server,
        connect(server.addresses["vectorsearch"].service, service="vectorsearch") as opened,
    ):
        client = VectorSearchClient(opened)
        client.create_collection("c", DIM, "m")
        ids = [f"i{number:04d}" for number in range(2000)]
        fields = [{"n": number} for number in range(2000)]
        client.upsert("c", ItemSet(VectorSet(ids, rng.normal(size=(2000, DIM)).astype(np.float32), "m"), fields))
        yield opened


def _calls(client: VectorSearchClient) -> list[Callable[[], SearchAnswer]]:
    """Searches of many kinds, some of them wrong."""
    rng = np.random.default_rng(4)
    queries = rng.normal(size=(CLIENTS, DIM)).astype(np.float32)
    calls: list[Callable[[], SearchAnswer]] = []
    for number, query in enumerate(queries):
        plain = SearchOptions(k=1 + number, offset=number % 3, min_score=0.2 if number % 2 else None)
        filtered = SearchOptions(k=5, condition=Range("n", lt=20 + number % 2))
        named = f"i{number:04d}" if number % 5 else "nobody"
        calls += [
            lambda query=query, plain=plain: client.search_vectors("c", query, plain),  # type: ignore[misc]
            lambda query=query, filtered=filtered: client.search_vectors("c", query, filtered),  # type: ignore[misc]
            lambda named=named: client.search_ids("c", [named]),  # type: ignore[misc]
            lambda query=query: client.search_vectors("c", query[:4]),  # type: ignore[misc]  # a wrong size
            lambda query=query: client.search_vectors("c", query, SearchOptions(k=3, diversity=0.5)),  # type: ignore[misc]
        ]
    return calls


def _outcome(call: Callable[[], SearchAnswer]) -> object:
    try:
        return call().results
    except GandtError as error:
        return type(error), error.reason


def test_answers_and_errors_are_those_of_single_calls(channel: Channel, store: Gated) -> None:
    calls = _calls(VectorSearchClient(channel))
    alone = [_outcome(call) for call in calls]
    store.sizes.clear()
    store.arrived.clear()
    store.gate.clear()
    with ThreadPoolExecutor(len(calls)) as threads:
        running = [threads.submit(_outcome, call) for call in calls]
        store.arrived.wait(20)
        store.gate.set()
        together = [one.result() for one in running]
    assert together == alone


def test_waiting_searches_share_a_product(channel: Channel, store: Gated) -> None:
    stub = wire.Stub(channel)
    requests = []
    for number in range(8):
        request = search_wire.search_request("c", SearchOptions(), "")
        request.vectors.block.CopyFrom(types.query_block(np.full(DIM, 1.0 + number, np.float32)))
        requests.append(request)
    store.sizes.clear()
    store.arrived.clear()
    store.gate.clear()
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(stub.Search, requests[0])
        assert store.arrived.wait(20)
        others = [threads.submit(stub.Search, request) for request in requests[1:]]
        # They have arrived when a later call on the same channel was answered.
        for _ in range(50):
            VectorSearchClient(channel).list_collections()
        store.gate.set()
        assert len({one.result().results[0].hits[0].image_id for one in (first, *others)}) == 1
    assert sum(store.sizes) == 8
    assert len(store.sizes) < 8


def test_a_deadline_ends_a_waiting_search_and_no_other(channel: Channel, store: Gated) -> None:
    store.arrived.clear()
    store.gate.clear()
    client = VectorSearchClient(channel)
    query = np.ones(DIM, np.float32)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(client.search_vectors, "c", query)
        assert store.arrived.wait(20)
        second = threads.submit(client.search_vectors, "c", query)
        request = search_wire.search_request("c", SearchOptions(), "")
        request.vectors.block.CopyFrom(types.query_block(query))
        with pytest.raises((DeadlineExceeded, grpc.RpcError)):
            wire.Stub(channel).Search(request, timeout=0.2)
        store.gate.set()
        assert first.result().results == second.result().results


def test_other_filters_get_their_own_answers(channel: Channel) -> None:
    client = VectorSearchClient(channel)
    query = np.ones(DIM, np.float32)
    with ThreadPoolExecutor(16) as threads:
        asked = [
            threads.submit(client.search_vectors, "c", query, SearchOptions(k=1, condition=In("n", (number,))))
            for number in range(40)
        ]
        assert [one.result().results[0].hits[0].image_id for one in asked] == [f"i{n:04d}" for n in range(40)]
