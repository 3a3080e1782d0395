# SPDX-License-Identifier: GPL-3.0-or-later
"""Searches on a Milvus server: by its index, or by comparing here what was read from it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.adapters import milvus_client as milvus
from gandt.adapters import milvus_conditions
from gandt.adapters.milvus_collection import STRONG, ServerCollection
from gandt.adapters.milvus_index import EXACT, IndexSpec
from gandt.adapters.resident_table import ResidentTable
from gandt.domain.errors import WrongState
from gandt.domain.filters import And, Filter, Ids, Not
from gandt.domain.search import average_direction
from gandt.domain.search_records import (
    MAX_RESULTS,
    ExampleStrategy,
    ExampleVectors,
    Hit,
    Hits,
    NearestQuery,
    SearchAnswer,
)
from gandt.domain.vectors import VectorSet

EXAMPLE_CANDIDATES = 4  # times k, for each example
MIN_CANDIDATES = 100


class ServerSearch:
    """Searches of one collection.

    Args:
        collection: to search.
        index: parameters of searches.
        consistency: what searches see of recent writes, by Milvus' names; exact ones see all.
    """

    def __init__(self, collection: ServerCollection, index: IndexSpec, consistency: str) -> None:
        self._collection = collection
        self._index = index
        self._consistency = consistency

    def nearest(self, query: NearestQuery) -> SearchAnswer:
        """See the port."""
        if query.exact and self._collection.index_type != EXACT:
            return self._compared_here(query, query.condition, exact=True)
        if query.k > MAX_RESULTS:  # a server gives no more
            try:
                return self._compared_here(query, query.condition, exact=True)
            except WrongState as error:
                if error.reason != "RESIDENT_MEMORY_FULL":
                    raise  # else what the server gives, which is not exact
        if isinstance(query.queries, ExampleVectors):
            if query.queries.strategy is ExampleStrategy.AVERAGE:
                direction = average_direction(query.queries)[None, :].astype(np.float32)
                return self._searched(replace(query, queries=direction), direction)
            return self._by_examples(query, query.queries)
        return self._searched(query, query.queries)

    def _searched(self, query: NearestQuery, queries: NDArray[np.float32]) -> SearchAnswer:
        collection = self._collection
        generation = collection.generation  # of before: a write meanwhile makes it too low, never too high
        level = STRONG if query.exact else self._consistency
        excluded = query.excluded or (frozenset(),) * len(queries)
        most = max((len(ids) for ids in excluded), default=0)
        if query.k + most <= MAX_RESULTS:
            raw = self._raw_hits(query, queries, query.condition, query.k + most, level)
        else:  # no room to drop hits from: the server leaves them out
            raw = []
            for row, ids in enumerate(excluded):
                without = Not(Ids(tuple(sorted(ids))))
                condition = without if query.condition is None else And((query.condition, without))
                raw += self._raw_hits(query, queries[row : row + 1], condition, min(MAX_RESULTS, query.k), level)
        compared = (
            collection.items() if query.condition is None else collection.count(query.condition, consistency=level)
        )
        results = tuple(
            _hits(rows, query, drop, collection.dim, collection.model_id)
            for rows, drop in zip(raw, excluded, strict=True)
        )
        is_whole = query.k <= MAX_RESULTS or compared <= MAX_RESULTS
        exact = collection.index_type == EXACT and level == STRONG and is_whole
        return SearchAnswer(results, exact, compared, collection.index_type, generation)

    def _raw_hits(
        self, query: NearestQuery, queries: NDArray[np.float32], condition: Filter | None, limit: int, level: str
    ) -> list[list[Any]]:
        """A server's hits of each query; those of all parts of a long condition together."""
        collection = self._collection
        columns = [milvus.ID]
        columns += [milvus.FIELDS] if query.with_fields else []
        columns += [milvus.VECTOR] if query.with_vectors else []
        step = max(1, milvus.MESSAGE_BYTES // (4 * collection.dim))
        hits: list[list[Any]] = [[] for _ in queries]
        with collection.doing("search"):
            for part in milvus_conditions.in_parts(condition):

                def search(rows: Sequence[Any], part: Filter | None = part) -> Any:
                    return collection.session.search(
                        collection.name,
                        data=list(rows),
                        anns_field=milvus.VECTOR,
                        limit=limit,
                        filter=collection.expression(part),
                        output_fields=columns,
                        search_params=self._index.search_parameters(collection.index_type, limit),
                        consistency_level=level,
                    )

                starts = range(0, len(queries), step)
                answers = (a for s in starts for a in milvus.in_parts(search, list(queries[s : s + step])))
                for row, found in enumerate(itertools.chain.from_iterable(answers)):
                    hits[row] += found
        return hits

    def _by_examples(self, query: NearestQuery, examples: ExampleVectors) -> SearchAnswer:
        """Scores the neighborhood of each positive (of the opposite of each negative when there is none)."""
        near = examples.positives if len(examples.positives) else -examples.negatives
        k = min(MAX_RESULTS, max(EXAMPLE_CANDIDATES * query.k, MIN_CANDIDATES))
        found = self._searched(NearestQuery(near, k, query.condition), near)
        candidates = tuple(sorted({hit.image_id for hits in found.results for hit in hits.hits}))
        condition: Filter = Ids(candidates) if query.condition is None else And((query.condition, Ids(candidates)))
        answer = self._compared_here(query, condition, exact=False)
        return replace(answer, candidates=found.candidates)

    def _compared_here(self, query: NearestQuery, condition: Filter | None, exact: bool) -> SearchAnswer:
        """Reads what matches and searches it in memory, as the embedded store does."""
        collection = self._collection
        scan = collection.scan(condition, "", milvus.PAGE_ROWS, True, query.with_fields)
        give_back = collection.memory.take(scan.total, collection.dim, collection.name)
        try:
            table = ResidentTable(collection.dim)
            for block in scan.blocks:
                table.append(block, scan.generation)
            matching = replace(query, condition=None)  # all that was read matches
            answer = table.nearest(matching, collection.model_id, exact, collection.index_type)
        finally:
            give_back()
        return replace(answer, generation=scan.generation)


def _hits(rows: Sequence[Any], query: NearestQuery, excluded: frozenset[str], dim: int, model_id: str) -> Hits:
    """Milvus' rows of one query as hits: best first, ties by id."""
    scored = [(_score(row), row) for row in rows if row[milvus.ID] not in excluded]
    if query.min_score is not None:
        scored = [(score, row) for score, row in scored if score >= query.min_score]
    scored = sorted(scored, key=lambda pair: (-pair[0], pair[1][milvus.ID]))[: query.k]
    entities = [{milvus.ID: row[milvus.ID], **row.get("entity", {})} for _, row in scored]
    hits = tuple(
        Hit(entity[milvus.ID], score, entity[milvus.FIELDS] if query.with_fields else {})
        for (score, _), entity in zip(scored, entities, strict=True)
    )
    if not query.with_vectors:
        return Hits(hits)
    vectors = milvus.items_of(entities, dim, model_id, True, False).vectors
    return Hits(hits, VectorSet(vectors.ids, vectors.matrix, model_id))


def _score(row: Any) -> float:
    """A cosine similarity; Milvus' float32 may be a little beyond 1, and differ for parallel vectors."""
    return max(-1.0, min(1.0, round(float(row["distance"]), 6)))
