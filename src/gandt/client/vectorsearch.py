# SPDX-License-Identifier: GPL-3.0-or-later
"""Typed client of the vector search service: domain records in and out, domain errors raised."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from gandt.client.connection import Channel, Responses
from gandt.domain.errors import InvalidInput
from gandt.domain.filters import Filter
from gandt.domain.near_duplicates import CONTENT_FIELD, DEFAULT_MAX_PAIRS, DEFAULT_THRESHOLD, DuplicateSpec
from gandt.domain.progress import Progress
from gandt.domain.search_records import (
    MAX_RESULTS,
    Collection,
    Deleted,
    DuplicateGroup,
    DuplicateKeep,
    DuplicateMode,
    DuplicatePair,
    DuplicateReport,
    Example,
    ExampleStrategy,
    Found,
    ItemSet,
    RejectedItem,
    SearchAnswer,
    SearchOptions,
    UpsertAck,
)
from gandt.domain.vectors import MAX_DIM, VectorSet
from gandt.wire import types
from gandt.wire import vectorsearch as wire
from gandt.wire import vectorsearch_duplicates as duplicates_wire
from gandt.wire import vectorsearch_search as search_wire
from gandt.wire.vectorsearch import pb

FETCH_BYTES = 30 << 20  # vectors asked for in one Fetch
_SMALL_FETCH = FETCH_BYTES // (4 * MAX_DIM + 70)  # ids whose vectors fit into one answer at any dim
_PLAIN = SearchOptions()


@dataclass(frozen=True, slots=True)
class UpsertReport:
    """How an upsert ended.

    Attributes:
        stored: items that are stored.
        rejected: items that are not, with the reason.
        generation: of the collection afterwards.
    """

    stored: int
    rejected: tuple[RejectedItem, ...]
    generation: int


class VectorSearchClient:
    """Calls the vector search service. Thread-safe.

    Args:
        channel: connection to the service; the caller closes it.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = wire.Stub(channel)

    # ---- collections ----

    def create_collection(self, name: str, dim: int, model_id: str, alias: str = "") -> Collection:
        """A new collection, or the same again.

        Args:
            alias: name that leads to it from now on, switched in one moment; "" leaves aliases as they are.
        Raises:
            AlreadyExists: it exists with another dim or model, or a name is taken.
            InvalidInput: a bad name or dim.
        """
        wanted = wire.collection_message(Collection(name, dim, model_id))
        request = pb.CreateCollectionRequest(collection=wanted, alias=alias)
        return wire.collection(self._stub.CreateCollection(request).collection)

    def get_collection(self, name: str) -> Collection:
        """One collection, by name or alias. Raises NotFound."""
        return wire.collection(self._stub.GetCollection(pb.GetCollectionRequest(collection=name)).collection)

    def list_collections(self) -> list[Collection]:
        """All collections, by name."""
        out: list[Collection] = []
        token = ""
        while True:
            page = self._stub.ListCollections(pb.ListCollectionsRequest(page_size=1000, page_token=token))
            out += [wire.collection(found) for found in page.collections]
            token = page.next_page_token
            if not token:
                return out

    def delete_collection(self, name: str) -> int:
        """Delete a collection with its vectors and aliases; how many vectors. Raises NotFound, WrongState."""
        return int(self._stub.DeleteCollection(pb.DeleteCollectionRequest(collection=name)).deleted_items)

    # ---- items ----

    def upsert(
        self,
        collection: str,
        sets: VectorSet | ItemSet | Iterable[VectorSet | ItemSet],
        model_id: str | None = None,
        on_ack: Callable[[UpsertAck], None] | None = None,
    ) -> UpsertReport:
        """Insert or replace items; bad ones are rejected alone.

        Args:
            sets: what to store, streamed in blocks of 1 MiB; an ItemSet carries fields.
            model_id: fingerprint to check against the collection's; None takes that of each set.
            on_ack: called with each acknowledgment, when the store has what it names.
        Raises:
            NotFound: no such collection.
            WrongState: the collection is of another model, or the store is full; what was acknowledged stays.
            InvalidInput: sets of several models.
        """
        given = [sets] if isinstance(sets, VectorSet | ItemSet) else sets
        source = _Requests(collection, iter(given), model_id)
        last = UpsertAck(0, 0, 0)
        rejected: list[RejectedItem] = []
        with cast(Responses, self._stub.Upsert(iter(source))) as responses:
            for response in responses:
                last = wire.upsert_ack(response)
                rejected += last.rejected
                if on_ack is not None:
                    on_ack(last)
        if source.failure is not None:
            raise source.failure
        return UpsertReport(last.stored, tuple(rejected), last.generation)

    def delete(
        self,
        collection: str,
        ids: Sequence[str] | None = None,
        condition: Filter | None = None,
        dry_run: bool = False,
    ) -> Deleted:
        """Delete items by ids or by condition; says which existed. Raises NotFound, InvalidInput."""
        return wire.deleted(self._stub.Delete(wire.delete_request(collection, ids, condition, dry_run)))

    def fetch(self, collection: str, ids: Sequence[str], with_fields: bool = False) -> Found:
        """Items in request order and the missing ids, in as many calls as it takes. Raises NotFound."""
        step = _SMALL_FETCH
        if len(ids) > step:
            step = max(1, min(MAX_RESULTS, FETCH_BYTES // (4 * self.get_collection(collection).dim + 70)))
        parts = []
        for start in range(0, max(1, len(ids)), step):
            part = pb.FetchRequest(collection=collection, ids=ids[start : start + step], with_fields=with_fields)
            parts.append(wire.found(self._stub.Fetch(part)))
        missing = tuple(image_id for part in parts for image_id in part.missing)
        return Found(_joined([part.items for part in parts]), missing)

    def scan(
        self,
        collection: str,
        condition: Filter | None = None,
        after_id: str = "",
        dtype: np.dtype[np.floating] | None = None,
    ) -> Iterator[VectorSet]:
        """All vectors that match, in id order and in blocks of at most 1 MiB; resumable after any id."""
        for block in self.scan_items(collection, condition, after_id, with_fields=False, dtype=dtype):
            yield block.vectors

    def scan_items(
        self,
        collection: str,
        condition: Filter | None = None,
        after_id: str = "",
        with_vectors: bool = True,
        with_fields: bool = True,
        dtype: np.dtype[np.floating] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Iterator[ItemSet]:
        """All items that match, in id order; without vectors the matrices are f32[N, 0]. Raises NotFound."""
        request = pb.ScanRequest(
            collection=collection,
            filter=types.filter_message(condition),
            after_id=after_id,
            with_vectors=with_vectors,
            with_fields=with_fields,
            dtype=types.dtype_message(dtype),
        )
        done = total = 0
        with cast(Responses, self._stub.Scan(request)) as responses:
            for response in responses:
                total = total or response.total
                block = wire.scan_block(response)
                done += len(block)
                if on_progress is not None:
                    on_progress(Progress("scanning", done, total))
                if len(block):
                    yield block

    def read(self, collection: str, condition: Filter | None = None) -> VectorSet:
        """All vectors that match in one set, in id order, with the collection's model id."""
        described = self.get_collection(collection)
        blocks = [ItemSet(block) for block in self.scan(collection, condition)]
        found = _joined(blocks).vectors if blocks else VectorSet([], np.zeros((0, described.dim), np.float32))
        return VectorSet(found.ids, found.matrix, described.model_id)

    # ---- search ----

    def search_vectors(
        self, collection: str, queries: NDArray[np.floating], options: SearchOptions = _PLAIN, model_id: str = ""
    ) -> SearchAnswer:
        """The nearest items to each query vector, [Q, D] or [D]. Raises NotFound, InvalidInput, WrongState."""
        request = search_wire.search_request(collection, options, model_id)
        request.vectors.block.CopyFrom(types.query_block(queries))
        return search_wire.search_answer(self._stub.Search(request))

    def search_ids(
        self, collection: str, ids: Sequence[str], options: SearchOptions = _PLAIN, include_self: bool = False
    ) -> SearchAnswer:
        """The nearest items to each of some items. Raises NotFound (also for an id), InvalidInput."""
        request = search_wire.search_request(collection, options, "")
        request.by_ids.CopyFrom(pb.SearchRequest.ByIds(ids=ids, include_self=include_self))
        return search_wire.search_answer(self._stub.Search(request))

    def search_examples(
        self,
        collection: str,
        positives: Sequence[Example] = (),
        negatives: Sequence[Example] = (),
        strategy: ExampleStrategy = ExampleStrategy.AVERAGE,
        options: SearchOptions = _PLAIN,
    ) -> SearchAnswer:
        """The best items for positive and negative examples, as one query. Raises NotFound, InvalidInput."""
        request = search_wire.search_request(collection, options, "")
        request.examples.CopyFrom(
            pb.SearchRequest.Examples(
                positives=search_wire.example_messages(positives),
                negatives=search_wire.example_messages(negatives),
                strategy=search_wire.strategy_message(strategy),
            )
        )
        return search_wire.search_answer(self._stub.Search(request))

    def find_near_duplicates(
        self,
        collection: str,
        threshold: float = DEFAULT_THRESHOLD,
        mode: DuplicateMode = "groups",
        condition: Filter | None = None,
        on_progress: Callable[[Progress], None] | None = None,
        keep: DuplicateKeep = "central",
        max_pairs: int = DEFAULT_MAX_PAIRS,
        content_field: str = CONTENT_FIELD,
        exact: bool = False,
    ) -> DuplicateReport:
        """All pairs, or all groups (single items too), whose similarity reaches the threshold.

        Args:
            keep: which member represents a group: `central`, or by `order` the one with the smallest id.
            max_pairs: most pairs to send; when there are more the report says `truncated`.
            content_field: text field with a hash of the content, equal for exact duplicates; "" for none.
            exact: compare all pairs of a large collection too; otherwise the report says whether they are.
        Raises:
            NotFound: no such collection.
            InvalidInput: the threshold is not in (0, 1].
        """
        spec = DuplicateSpec(threshold, mode, keep, max_pairs, content_field, exact)
        request = duplicates_wire.duplicates_request(collection, spec, condition)
        pairs: list[DuplicatePair] = []
        groups: list[DuplicateGroup] = []
        progress = Progress("comparing")
        truncated, compared_all = False, True
        with cast(Responses, self._stub.FindNearDuplicates(request)) as responses:
            for response in responses:
                report = duplicates_wire.duplicate_report(response)
                pairs += report.pairs
                groups += report.groups
                progress = report.progress
                truncated, compared_all = report.truncated, report.exact
                if on_progress is not None:
                    on_progress(progress)
        return DuplicateReport(progress, tuple(pairs), tuple(groups), compared_all, truncated)


class _Requests:
    """The messages of an upsert. gRPC reads them in a thread of its own and would hide what the source raises."""

    def __init__(self, collection: str, sets: Iterator[VectorSet | ItemSet], model_id: str | None) -> None:
        self._collection = collection
        self._sets = sets
        self._model_id = model_id
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[pb.UpsertRequest]:
        try:
            yield from self._messages()
        except Exception as error:  # noqa: BLE001 (raised again in the caller's thread)
            self.failure = error

    def _messages(self) -> Iterator[pb.UpsertRequest]:
        opened = False
        model_id = self._model_id or ""
        for given in self._sets:
            items = ItemSet(given) if isinstance(given, VectorSet) else given
            if not opened:
                model_id = items.vectors.model_id if self._model_id is None else self._model_id
                yield wire.upsert_open_message(self._collection, model_id)
                opened = True
            elif self._model_id is None and items.vectors.model_id != model_id:
                raise InvalidInput(
                    f"vectors of models {model_id!r} and {items.vectors.model_id!r} cannot go into one collection",
                    field="model_id",
                    reason="MODEL_MISMATCH",
                )
            yield from wire.upsert_block_messages(items)
        if not opened:
            yield wire.upsert_open_message(self._collection, model_id)


def _joined(parts: Sequence[ItemSet]) -> ItemSet:
    if len(parts) == 1:
        return parts[0]
    ids = [image_id for part in parts for image_id in part.ids]
    matrix = np.concatenate([part.vectors.matrix for part in parts])
    fields = [row for part in parts for row in part.fields]
    return ItemSet(VectorSet(ids, matrix, parts[0].vectors.model_id), fields)
