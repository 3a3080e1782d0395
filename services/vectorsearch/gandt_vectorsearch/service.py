# SPDX-License-Identifier: GPL-3.0-or-later
"""What vector search does: collections, upserts, reads and near-duplicates over a VectorStore."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence

from gandt.domain import paging
from gandt.domain.collections import check_name
from gandt.domain.errors import GandtError, InvalidInput, WrongState
from gandt.domain.filters import Filter
from gandt.domain.near_duplicates import DuplicateSpec, FindCandidates, find_near_duplicates
from gandt.domain.search_records import (
    MAX_RESULTS,
    Collection,
    Deleted,
    DuplicateReport,
    Found,
    ItemSet,
    Scan,
    UpsertAck,
)
from gandt.domain.upserts import sort_out
from gandt.domain.vectors import MAX_DIM, check_id, check_ids
from gandt.ports.clock import NO_DEADLINE, Deadline
from gandt.ports.meter import Meter, Metric
from gandt.ports.vector_store import VectorStore

log = logging.getLogger(__name__)
ROWS = "gandt_vectorsearch_rows"
SEARCH_SECONDS = "gandt_vectorsearch_search_seconds"
RECALL_CANARY = "gandt_vectorsearch_recall_canary"
METRICS = (
    Metric(ROWS, "gauge", "Items stored, over all collections."),
    Metric(SEARCH_SECONDS, "histogram", "Seconds of a Search call inside the service.", ("query", "index")),
    Metric(RECALL_CANARY, "gauge", "Recall of approximate searches, measured now and then; 1 before the first."),
)

ANSWER_BYTES = 31 << 20  # a unary answer stays within 32 MiB
WRITE_ROWS = 1000


class VectorSearch:
    """Use cases on collections and items; `searches.Searches` has Search.

    Args:
        store: where vectors live.
        meter: where metrics go.
        graph: finds pairs for near-duplicates among more rows than `graph_above`; None compares all pairs always.
    """

    def __init__(
        self, store: VectorStore, meter: Meter, graph: FindCandidates | None = None, graph_above: int = 0
    ) -> None:
        self._store = store
        self._meter = meter
        self._graph = graph
        self._graph_above = graph_above
        self._writers: dict[str, threading.Lock] = {}  # of collections: no write between a condition and its delete

    def warm_up(self) -> None:
        """Take the store and load it. Raises as VectorStore.open."""
        self._store.open()
        self._meter.set_level(RECALL_CANARY, 1.0)
        self._count_rows()

    def close(self) -> None:
        """Flush and let go."""
        self._store.close()

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """A new collection, or the same again; an alias leads to it from now on.

        Raises:
            InvalidInput: a bad name, alias or dim.
            AlreadyExists: it exists with another dim or model, or a name is taken.
        """
        check_name(name)
        if alias:
            check_name(alias, "alias")
        if not 1 <= dim <= MAX_DIM:
            raise InvalidInput(f"dim is {dim}, allowed are 1 to {MAX_DIM}", field="collection.dim", reason="BAD_DIM")
        return self._store.create_collection(name, dim, model_id, alias)

    def get_collection(self, name: str) -> Collection:
        """One collection. Raises NotFound."""
        return self._store.get_collection(name)

    def list_collections(self, page_size: int = 0, page_token: str = "") -> tuple[list[Collection], str]:
        """A page of collections by name, and the token of the next one ("" on the last).

        Raises:
            InvalidInput: page_size is over 1000.
        """
        size = paging.page_size(page_size, 100, 1000)
        return paging.page_by_name(self._store.list_collections(), lambda found: found.name, size, page_token)

    def delete_collection(self, name: str) -> int:
        """Delete a collection and say how many items went with it. Raises NotFound, WrongState (an alias)."""
        count = self._store.delete_collection(name)
        self._count_rows()
        return count

    def upsert(
        self, name: str, model_id: str, blocks: Iterable[ItemSet], deadline: Deadline = NO_DEADLINE
    ) -> Iterator[UpsertAck]:
        """Store blocks as they come; each is acknowledged when the store has it.

        Args:
            model_id: fingerprint of the vectors' model; "" is not checked.
        Raises:
            NotFound: no such collection.
            WrongState: the collection is another model's (MODEL_MISMATCH), or the store is full.
        """
        collection = self.of_model(name, model_id)
        name = collection.name  # an alias may be switched while the stream runs
        acknowledged = stored = 0
        generation = collection.generation
        for block in blocks:
            deadline.check()
            good, rejected = sort_out(block, collection.dim, acknowledged)
            for start in range(0, len(good), WRITE_ROWS):
                with self._writer(name):
                    generation = self._store.upsert(name, good.slice(start, start + WRITE_ROWS))
            acknowledged += len(block)
            stored += len(block) - len(rejected)
            yield UpsertAck(acknowledged, stored, generation, rejected)
        self._count_rows()
        if not acknowledged:
            yield UpsertAck(0, 0, generation)

    def delete(self, name: str, ids: Sequence[str] | None, condition: Filter | None, dry_run: bool = False) -> Deleted:
        """Delete by ids or, when those are None, by condition: what matches when it is deleted.

        Raises:
            InvalidInput: neither is given, an id that no item can have, or the answer would be too large.
        """
        if ids is None and condition is None:
            raise InvalidInput(
                "nothing says what to delete",
                field="selector",
                reason="NO_SELECTOR",
                fix="give ids or a filter; a filter `and` without operands means everything",
            )
        name = self._store.get_collection(name).name  # an alias may be switched meanwhile
        if ids is not None:
            check_ids(ids)
            return self._delete(name, ids, dry_run)
        with self._writer(name):
            blocks = self._store.scan(name, condition, block_rows=10_000, with_vectors=False).blocks
            return self._delete(name, [image_id for block in blocks for image_id in block.ids], dry_run)

    def _delete(self, name: str, ids: Sequence[str], dry_run: bool) -> Deleted:
        self._check_answer(sum(len(image_id.encode()) + 4 for image_id in ids), "delete fewer items at once")
        if dry_run:
            present = self._present(name, ids)
            found = tuple(image_id for image_id in dict.fromkeys(ids) if image_id in present)
            return Deleted(found, self._store.get_collection(name).generation)
        deleted = self._store.delete(name, ids)
        self._count_rows()
        return deleted

    def fetch(self, name: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """Items in request order, and the ids that are missing.

        Raises:
            InvalidInput: over 16384 ids, one that no item can have, or more vectors than one answer holds.
        """
        if len(ids) > MAX_RESULTS:
            raise InvalidInput(
                f"{len(ids)} ids were asked for, at most {MAX_RESULTS} in one call",
                field="ids",
                reason="TOO_MANY",
                fix="ask in parts, or scan",
            )
        check_ids(ids)
        collection = self._store.get_collection(name)
        row = 4 * collection.dim + 70
        self._check_answer(len(ids) * row, f"ask for at most {ANSWER_BYTES // row} ids at once")
        return self._store.fetch(collection.name, ids, with_fields)

    def scan(
        self,
        name: str,
        condition: Filter | None = None,
        after_id: str = "",
        block_rows: int = 0,
        with_vectors: bool = False,
        with_fields: bool = False,
    ) -> Scan:
        """All items in id order; 0 rows a block lets the service choose. Raises NotFound, InvalidInput."""
        if after_id:
            check_id(after_id, "after_id")
        collection = self._store.get_collection(name)
        fitting = max(1, (1 << 20) // (4 * collection.dim + 70)) if with_vectors else 8192
        rows = min(block_rows or fitting, fitting)
        return self._store.scan(collection.name, condition, after_id, rows, with_vectors, with_fields)

    def find_near_duplicates(
        self,
        name: str,
        spec: DuplicateSpec,
        condition: Filter | None = None,
        deadline: Deadline = NO_DEADLINE,
    ) -> Iterator[DuplicateReport]:
        """Compare all items that match with each other, reporting progress; many of them by a neighbor graph.

        Raises:
            InvalidInput: the threshold is not in (0, 1], or max_pairs or the field is out of range.
            NotFound: no such collection.
            DeadlineExceeded: the caller went away.
        """
        spec.check()
        view = self._store.matrix(name, condition, spec.content_field)
        by_graph = self._graph is not None and len(view.ids) > self._graph_above and not spec.exact
        for report in find_near_duplicates(view, spec, approximate=self._graph if by_graph else None):
            deadline.check()
            yield report

    def of_model(self, name: str, model_id: str) -> Collection:
        """The collection, if its vectors are of that model; "" is not checked.

        Raises:
            NotFound: no such collection.
            WrongState: it holds another model's vectors (MODEL_MISMATCH).
        """
        collection = self._store.get_collection(name)
        check_model(collection, model_id)
        return collection

    def _present(self, name: str, ids: Sequence[str]) -> set[str]:
        found: set[str] = set()
        for start in range(0, len(ids), MAX_RESULTS):
            part = ids[start : start + MAX_RESULTS]
            found |= set(part) - set(self._store.fetch(name, part).missing)
        return found

    def _check_answer(self, size: int, fix: str) -> None:
        if size > ANSWER_BYTES:
            raise InvalidInput(
                f"the answer would take {size:,} bytes, at most {ANSWER_BYTES:,} fit",
                reason="ANSWER_TOO_LARGE",
                fix=fix,
            )

    def _writer(self, name: str) -> threading.Lock:
        return self._writers.setdefault(name, threading.Lock())

    def _count_rows(self) -> None:
        try:
            items = sum(found.items for found in self._store.list_collections())
        except GandtError as error:  # what was asked is done
            log.warning("the items stored could not be counted: %s", error)
        else:
            self._meter.set_level(ROWS, float(items))


def check_model(collection: Collection, model_id: str) -> None:
    """Raises WrongState (MODEL_MISMATCH) unless the collection is of that model; "" is not checked."""
    if model_id and model_id != collection.model_id:
        raise WrongState(
            f"collection {collection.name} holds vectors of model {collection.model_id!r}, not of {model_id!r}",
            kind="collection",
            id=collection.name,
            state=collection.model_id,
            reason="MODEL_MISMATCH",
            fix="use the collection of that model, or embed again",
            metadata={"model_id": collection.model_id},
        )
