# SPDX-License-Identifier: GPL-3.0-or-later
"""The recall canary: now and then an approximate search is repeated exactly, behind its call, and compared."""

from __future__ import annotations

import contextlib
import logging
import threading
from concurrent.futures import Executor, Future
from dataclasses import replace

from gandt.domain.errors import GandtError
from gandt.domain.search_records import NearestQuery, SearchAnswer
from gandt.ports.clock import Clock
from gandt.ports.meter import Meter
from gandt.ports.vector_store import VectorStore
from gandt_vectorsearch.service import RECALL_CANARY

log = logging.getLogger(__name__)
CANARY_EVERY = 100  # approximate searches between two that are repeated exactly,
CANARY_SECONDS = 1.0  # and at least so long: an exact search takes fifty times as long
CANARY_INDEX = "hnsw"  # of the embedded store, whose exact searches are in memory; a server's read the collection


class Canary:
    """Measures the recall of approximate searches. Thread-safe.

    Args:
        store: where they are repeated.
        meter: takes the recall.
        clock: for the time between two.
        threads: where they run; None measures nothing.
    """

    def __init__(self, store: VectorStore, meter: Meter, clock: Clock, threads: Executor | None) -> None:
        self._store = store
        self._meter = meter
        self._clock = clock
        self._threads = threads
        self._lock = threading.Lock()
        self._running: Future[None] | None = None
        self._approximate = CANARY_EVERY  # searches since the last canary; the first one is a canary
        self._after = float("-inf")  # seconds of the clock

    def watch(self, name: str, query: NearestQuery, answer: SearchAnswer) -> None:
        """Count a search; repeat it when it is time. It neither waits nor fails."""
        if self._threads is None or answer.exact or answer.index != CANARY_INDEX:
            return
        with self._lock:
            self._approximate += 1
            now = self._clock.monotonic()
            if self._approximate < CANARY_EVERY or now < self._after:
                return
            if self._running is not None and not self._running.done():
                return
            self._approximate, self._after = 0, now + CANARY_SECONDS
            with contextlib.suppress(RuntimeError):  # the service ends
                self._running = self._threads.submit(self._measure, name, query)

    def _measure(self, name: str, query: NearestQuery) -> None:
        plain = replace(query, with_vectors=False, with_fields=False)
        try:
            found = self._store.nearest(name, plain)
            truth = self._store.nearest(name, replace(plain, exact=True))
        except GandtError as error:  # the collection is gone, or the store
            log.warning("the recall of a search could not be measured: %s", error)
            return
        if found.generation == truth.generation and not found.exact:
            self._meter.set_level(RECALL_CANARY, _recall(found, truth))


def _recall(answer: SearchAnswer, truth: SearchAnswer) -> float:
    found = wanted = 0
    for got, true in zip(answer.results, truth.results, strict=True):
        right = {hit.image_id for hit in true.hits}
        wanted += len(right)
        found += len(right & {hit.image_id for hit in got.hits})
    return found / wanted if wanted else 1.0
