# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes of the vector search service while something else happens in its store."""

from __future__ import annotations

import threading
from typing import Any

from gandt_vectorsearch.service import ROWS, VectorSearch

from gandt.adapters.memory_clock import MemoryMeter
from gandt.adapters.memory_vectors import MemoryVectors
from gandt.domain.errors import BackendUnavailable
from gandt.domain.filters import In
from gandt.domain.search_records import Collection, Scan
from tests.contract.vector_items import items


class Interrupted(MemoryVectors):
    """A store in which somebody else writes as soon as a condition was evaluated."""

    def scan(self, *args: Any, **options: Any) -> Scan:
        found = super().scan(*args, **options)
        self.other.start()
        self.other.join(0.2)  # comes to its end only where nothing keeps it from writing
        return found

    other: threading.Thread


def test_an_item_that_no_longer_matches_is_not_deleted() -> None:
    store = Interrupted()
    service = VectorSearch(store, MemoryMeter())
    service.create_collection("c", 2, "")
    list(service.upsert("c", "", [items(["a", "b"], [[1, 0], [0, 1]], [{"split": "old"}, {"split": "old"}])]))
    mended = items(["b"], [[0, 1]], [{"split": "new"}])
    store.other = threading.Thread(target=lambda: list(service.upsert("c", "", [mended])))
    service.delete("c", None, In("split", ("old",)))
    store.other.join()
    assert service.fetch("c", ["b"], with_fields=True).items.fields == ({"split": "new"},)


class Uncountable(MemoryVectors):
    """A store that cannot list its collections."""

    def list_collections(self) -> list[Collection]:
        raise BackendUnavailable("the server does not answer", backend="milvus", reason="VECTOR_STORE_FAILED")


def test_a_write_that_is_stored_does_not_fail_because_items_cannot_be_counted() -> None:
    meter = MemoryMeter()
    service = VectorSearch(Uncountable(), meter)
    service.warm_up()
    service.create_collection("c", 2, "")
    acks = list(service.upsert("c", "", [items(["a", "b"], [[1, 0], [0, 1]])]))
    assert [ack.stored for ack in acks] == [2]
    assert service.delete("c", ["a"], None).ids == ("a",)
    assert service.delete_collection("c") == 1
    assert meter.value(ROWS) == 0
