# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC face of vector search: messages in, use case, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from gandt.domain.errors import GandtError, InvalidInput
from gandt.ports.clock import Deadline
from gandt.runtime.gathering import Gathering
from gandt.runtime.work_pool import WorkPool
from gandt.wire import types
from gandt.wire import vectorsearch as wire
from gandt.wire import vectorsearch_duplicates as duplicates_wire
from gandt.wire import vectorsearch_search as search_wire
from gandt.wire.vectorsearch import pb
from gandt_vectorsearch.searches import ByExamples, ByIds, ByVectors, Query, SearchCall, Searches
from gandt_vectorsearch.service import VectorSearch

JOINED_HITS = 128  # hits a query of searches that go together: more would make the others wait
JOINED_QUERIES = 8  # queries a call of those


@dataclass(frozen=True, slots=True)
class _Asked:
    request: pb.SearchRequest
    deadline: Deadline


class VectorSearchServicer(wire.Servicer):
    """Hands each call to a use case in a worker thread.

    Args:
        service: collections and items.
        searches: Search.
        pool: worker threads.
    """

    def __init__(self, service: VectorSearch, searches: Searches, pool: WorkPool) -> None:
        self._service = service
        self._searches = searches
        self._pool = pool
        self._gathering = Gathering(pool, self._search_together)

    async def CreateCollection(self, request: pb.CreateCollectionRequest, context: Any) -> pb.CreateCollectionResponse:
        wanted = wire.collection(request.collection)
        made = await self._pool.call(
            context, self._service.create_collection, wanted.name, wanted.dim, wanted.model_id, request.alias
        )
        return pb.CreateCollectionResponse(collection=wire.collection_message(made))

    async def GetCollection(self, request: pb.GetCollectionRequest, context: Any) -> pb.GetCollectionResponse:
        found = await self._pool.call(context, self._service.get_collection, request.collection)
        return pb.GetCollectionResponse(collection=wire.collection_message(found))

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        page, token = await self._pool.call(
            context, self._service.list_collections, request.page_size, request.page_token
        )
        return pb.ListCollectionsResponse(
            collections=[wire.collection_message(found) for found in page], next_page_token=token
        )

    async def DeleteCollection(self, request: pb.DeleteCollectionRequest, context: Any) -> pb.DeleteCollectionResponse:
        count = await self._pool.call(context, self._service.delete_collection, request.collection)
        return pb.DeleteCollectionResponse(deleted_items=count)

    def Upsert(
        self, request_iterator: AsyncIterator[pb.UpsertRequest], context: Any
    ) -> AsyncIterator[pb.UpsertResponse]:
        deadline = self._pool.deadline(context)  # each block is stored by itself: a stream's end says nothing more
        return self._pool.duplex(context, request_iterator, self._upsert, deadline, tell_broken_off=False)

    def _upsert(self, requests: Iterator[pb.UpsertRequest], deadline: Deadline) -> Iterator[pb.UpsertResponse]:
        collection, model_id = wire.upsert_open(requests)
        blocks = wire.upsert_blocks(requests)
        for ack in self._service.upsert(collection, model_id, blocks, deadline):
            yield wire.upsert_ack_message(ack)

    async def Delete(self, request: pb.DeleteRequest, context: Any) -> pb.DeleteResponse:
        ids, condition = wire.delete_selector(request)
        outcome = await self._pool.call(
            context, self._service.delete, request.collection, ids, condition, request.dry_run
        )
        return wire.deleted_message(outcome)

    async def Fetch(self, request: pb.FetchRequest, context: Any) -> pb.FetchResponse:
        return await self._pool.call(context, self._fetch, request)

    def _fetch(self, request: pb.FetchRequest) -> pb.FetchResponse:
        outcome = self._service.fetch(request.collection, list(request.ids), request.with_fields)
        return wire.found_message(outcome, request.with_fields)

    def Scan(self, request: pb.ScanRequest, context: Any) -> AsyncIterator[pb.ScanResponse]:
        return self._pool.stream(context, self._scan, request)

    def _scan(self, request: pb.ScanRequest) -> Iterator[pb.ScanResponse]:
        condition = types.filter_of(request.filter if request.HasField("filter") else None)
        dtype = types.dtype_of(request.dtype)
        scan = self._service.scan(
            request.collection,
            condition,
            request.after_id,
            request.block_rows,
            request.with_vectors,
            request.with_fields,
        )
        yield from wire.scan_messages(scan, dtype, request.with_vectors)

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        asked = _Asked(request, self._pool.deadline(context))
        if (key := _kinship(request)) is not None:
            return await self._gathering.call(key, asked)
        return await self._pool.call(context, self._search, request, asked.deadline)

    def _search_together(self, asked: Sequence[_Asked]) -> list[pb.SearchResponse | GandtError]:
        """Searches of one kinship: all by one product."""
        if len(asked) == 1:
            return [self._search(asked[0].request, asked[0].deadline)]
        calls: list[SearchCall | GandtError] = []
        for one in asked:
            try:
                request = one.request
                calls.append(
                    SearchCall(_query(request), search_wire.search_options(request), request.model_id, one.deadline)
                )
            except GandtError as error:
                calls.append(error)
        good = [call for call in calls if isinstance(call, SearchCall)]
        answers = iter(self._searches.search_together(asked[0].request.collection, good))
        outcomes = [call if isinstance(call, GandtError) else next(answers) for call in calls]
        return [one if isinstance(one, GandtError) else search_wire.search_answer_message(one) for one in outcomes]

    def _search(self, request: pb.SearchRequest, deadline: Deadline) -> pb.SearchResponse:
        options = search_wire.search_options(request)
        answer = self._searches.search(request.collection, _query(request), options, request.model_id, deadline)
        return search_wire.search_answer_message(answer)

    def FindNearDuplicates(
        self, request: pb.FindNearDuplicatesRequest, context: Any
    ) -> AsyncIterator[pb.FindNearDuplicatesResponse]:
        return self._pool.stream(context, self._find_near_duplicates, request, self._pool.deadline(context))

    def _find_near_duplicates(
        self, request: pb.FindNearDuplicatesRequest, deadline: Deadline
    ) -> Iterator[pb.FindNearDuplicatesResponse]:
        condition = types.filter_of(request.filter if request.HasField("filter") else None)
        spec = duplicates_wire.duplicate_spec(request)
        reports = self._service.find_near_duplicates(request.collection, spec, condition, deadline)
        for report in reports:
            yield from duplicates_wire.duplicate_report_messages(report)


def _kinship(request: pb.SearchRequest) -> tuple[object, ...] | None:
    """What small searches have in common that one product may answer; None for others."""
    kind = request.WhichOneof("query")
    if kind == "vectors":
        count = len(request.vectors.block.data) // max(1, 2 * request.vectors.block.dim)
    elif kind == "by_ids":
        count = 2 * len(request.by_ids.ids)
    else:
        return None
    if count > 2 * JOINED_QUERIES or (request.k or 10) + request.offset > JOINED_HITS:
        return None
    if request.group_by or request.diversity:
        return None
    condition = request.filter.SerializeToString(deterministic=True) if request.HasField("filter") else None
    return request.collection, condition, request.exact, request.with_vectors, request.with_fields


def _query(request: pb.SearchRequest) -> Query:
    kind = request.WhichOneof("query")
    if kind == "vectors":
        return ByVectors(types.vector_set(request.vectors.block, named=False).matrix)
    if kind == "by_ids":
        return ByIds(tuple(request.by_ids.ids), request.by_ids.include_self)
    if kind == "examples":
        return ByExamples(
            search_wire.examples(request.examples.positives),
            search_wire.examples(request.examples.negatives),
            search_wire.strategy(request.examples.strategy),
        )
    raise InvalidInput("the search has no query", field="query", reason="NO_QUERY", fix="give vectors, ids or examples")
