# SPDX-License-Identifier: GPL-3.0-or-later
"""Search: queries by vectors, ids or examples; groups, diversity and offset on top of a store's nearest items."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt.domain.fields import check_field_name
from gandt.domain.joint_search import apart, joined
from gandt.domain.search import mmr
from gandt.domain.search_records import (
    MAX_RESULTS,
    Collection,
    Example,
    ExampleStrategy,
    ExampleVectors,
    Hits,
    NearestQuery,
    SearchAnswer,
    SearchOptions,
)
from gandt.domain.upserts import vector_problems
from gandt.domain.vectors import VectorSet, check_ids
from gandt.ports.clock import NO_DEADLINE, Clock, Deadline
from gandt.ports.meter import Meter
from gandt.ports.vector_store import VectorStore
from gandt_vectorsearch.canary import Canary
from gandt_vectorsearch.service import ANSWER_BYTES, SEARCH_SECONDS, VectorSearch, check_model

MMR_POOL = 4  # candidates for each hit that diversity chooses from
MMR_POOL_MIN = 100
SEARCH_BYTES = 256 << 20  # of hits that a store is asked for by one call
HIT_BYTES = 80  # of a hit in an answer, about, without its vector


@dataclass(frozen=True, slots=True)
class ByVectors:
    """Queries by vectors, [Q, D] in any float format."""

    matrix: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class ByIds:
    """Each id is a query of its own; the item itself is left out unless asked for."""

    ids: tuple[str, ...]
    include_self: bool = False


@dataclass(frozen=True, slots=True)
class ByExamples:
    """Positive and negative examples, together one query; the examples themselves are left out."""

    positives: tuple[Example, ...]
    negatives: tuple[Example, ...] = ()
    strategy: ExampleStrategy = ExampleStrategy.AVERAGE


Query = ByVectors | ByIds | ByExamples
_KINDS = {ByVectors: "vectors", ByIds: "ids", ByExamples: "examples"}  # what the metrics call them


@dataclass(frozen=True, slots=True)
class SearchCall:
    """What one caller asks."""

    query: Query
    options: SearchOptions
    model_id: str = ""
    deadline: Deadline = NO_DEADLINE


class Searches:
    """The Search use case.

    Args:
        store: where vectors live.
        service: the other use cases; it checks collection and model.
        meter: where metrics go.
        clock: for the search time.
        canaries: where a search that is repeated exactly runs, behind its call; None repeats none.
    """

    def __init__(
        self,
        store: VectorStore,
        service: VectorSearch,
        meter: Meter,
        clock: Clock,
        canaries: Executor | None = None,
    ) -> None:
        self._store = store
        self._service = service
        self._meter = meter
        self._clock = clock
        self._canary = Canary(store, meter, clock, canaries)

    def search(
        self, name: str, query: Query, options: SearchOptions, model_id: str = "", deadline: Deadline = NO_DEADLINE
    ) -> SearchAnswer:
        """The best items for each query.

        Args:
            model_id: fingerprint of the query vectors' model; "" is not checked.
        Raises:
            NotFound: no such collection, or an id that is not in it.
            InvalidInput: an option or a query vector is out of range, or the answer would be too large.
            WrongState: the collection holds another model's vectors.
        """
        began = self._clock.monotonic()
        collection = self._service.get_collection(name)  # by its name from now on: an alias may be switched meanwhile
        nearest = self._prepared(collection, query, options, model_id, deadline)
        answer = self._answered(collection.name, nearest, options)
        self._note(collection.name, query, nearest, answer, began)
        return answer

    def search_together(self, name: str, calls: Sequence[SearchCall]) -> list[SearchAnswer | GandtError]:
        """Some calls that differ in query, k, offset and min_score only, answered by one search of the store.

        Returns:
            For each call what `search` would have answered or raised.
        """
        began = self._clock.monotonic()
        try:
            collection = self._service.get_collection(name)
        except GandtError as error:
            return [error] * len(calls)
        prepared: list[NearestQuery | GandtError] = []
        for call in calls:
            try:
                prepared.append(self._prepared(collection, call.query, call.options, call.model_id, call.deadline))
            except GandtError as error:
                prepared.append(error)
        good = [nearest for nearest in prepared if not isinstance(nearest, GandtError)]
        try:
            answers = iter(apart(self._store.nearest(collection.name, joined(good)), good) if good else [])
        except GandtError as error:
            return [nearest if isinstance(nearest, GandtError) else error for nearest in prepared]
        out: list[SearchAnswer | GandtError] = []
        for call, nearest in zip(calls, prepared, strict=True):
            if isinstance(nearest, GandtError):
                out.append(nearest)
                continue
            answer = _all_cut(next(answers), call.options)
            self._note(collection.name, call.query, nearest, answer, began)
            out.append(answer)
        return out

    def _prepared(
        self, collection: Collection, query: Query, options: SearchOptions, model_id: str, deadline: Deadline
    ) -> NearestQuery:
        """The checked search, as stores answer it. Raises as `search`."""
        deadline.check()
        check_model(collection, model_id)
        _check_options(options, query)
        nearest = self._resolved(collection, query, options)
        self._check_size(collection, nearest, options)
        deadline.check()
        return nearest

    def _note(self, name: str, query: Query, nearest: NearestQuery, answer: SearchAnswer, began: float) -> None:
        seconds = self._clock.monotonic() - began
        self._meter.observe(SEARCH_SECONDS, seconds, query=_KINDS[type(query)], index=answer.index)
        self._canary.watch(name, nearest, answer)

    def _resolved(self, collection: Collection, query: Query, options: SearchOptions) -> NearestQuery:
        queries, excluded = self._queries(collection, query)
        return NearestQuery(
            queries=queries,
            excluded=excluded,
            k=options.offset + options.k,
            condition=options.condition,
            min_score=options.min_score,
            exact=options.exact,
            with_vectors=options.with_vectors or options.diversity > 0,
            with_fields=options.with_fields or bool(options.group_by),
        )

    def _queries(
        self, collection: Collection, query: Query
    ) -> tuple[NDArray[np.float32] | ExampleVectors, tuple[frozenset[str], ...]]:
        """What is near, and what each query leaves out."""
        if isinstance(query, ByVectors):
            _check_count(len(query.matrix), "query vectors")
            for row, problem in enumerate(vector_problems(query.matrix, collection.dim)):
                if problem:
                    raise InvalidInput(f"query vector {row} {problem}", field="vectors", reason="BAD_VECTOR")
            return np.asarray(query.matrix, np.float32), ()
        if isinstance(query, ByIds):
            _check_count(len(query.ids), "ids")
            queries = self._vectors(collection.name, query.ids)
            excluded = () if query.include_self else tuple(frozenset((image_id,)) for image_id in query.ids)
            return queries, excluded
        return self._examples(collection.name, query)

    def _examples(self, name: str, query: ByExamples) -> tuple[ExampleVectors, tuple[frozenset[str], ...]]:
        examples = (*query.positives, *query.negatives)
        _check_count(len(examples), "examples")
        for example in examples:
            if not 0 < example.weight < float("inf"):
                raise InvalidInput(
                    f"the weight of example {example.image_id!r} is {example.weight}, it must be above 0",
                    field="examples.weight",
                    reason="BAD_WEIGHT",
                )
        matrix = self._vectors(name, [example.image_id for example in examples])
        weights = np.array([example.weight for example in examples], np.float64)
        split = len(query.positives)
        vectors = ExampleVectors(matrix[:split], matrix[split:], weights[:split], weights[split:], query.strategy)
        return vectors, (frozenset(example.image_id for example in examples),)

    def _vectors(self, name: str, ids: Sequence[str]) -> NDArray[np.float32]:
        check_ids(ids)
        found = self._store.fetch(name, ids)
        if found.missing:
            shown = found.missing[0]
            more = f" (and {len(found.missing) - 1} more)" if len(found.missing) > 1 else ""
            raise NotFound(
                f"image {shown!r}{more} is not in collection {name}",
                kind="image",
                id=shown,
                reason="IMAGE_NOT_EMBEDDED",
                fix="run embed first",
            )
        return np.asarray(found.items.vectors.matrix, np.float32)

    def _check_size(self, collection: Collection, query: NearestQuery, options: SearchOptions) -> None:
        count = 1 if isinstance(query.queries, ExampleVectors) else len(query.queries)
        items = max(1, collection.items)
        _check_bytes("answer", count * min(options.k, items), collection.dim if options.with_vectors else 0)
        asked = count * min(_asked(query, options), items)
        _check_bytes("search", asked, collection.dim if query.with_vectors else 0)

    def _answered(self, name: str, query: NearestQuery, options: SearchOptions) -> SearchAnswer:
        asked = _asked(query, options)
        if options.group_by:
            answer = self._grouped(name, query, options, asked // 4)
        else:
            answer = self._store.nearest(name, query if asked == query.k else replace(query, k=asked))
        return _all_cut(answer, options)

    def _grouped(self, name: str, query: NearestQuery, options: SearchOptions, wanted: int) -> SearchAnswer:
        """Asks for more and more hits for those queries that have too few after their groups are cut.

        Raises:
            InvalidInput: so many hits are needed that they do not fit.
        """
        total = self._store.get_collection(name).items
        asked = 4 * wanted
        answer = self._store.nearest(name, replace(query, k=asked))
        results = [_one_a_group(hits, options) for hits in answer.results]
        short = [row for row, hits in enumerate(answer.results) if _wants_more(hits, results[row], wanted, asked)]
        while short and asked < total:
            asked *= 4
            dim = self._store.get_collection(name).dim if query.with_vectors else 0
            _check_bytes("search", len(short) * min(asked, total), dim)
            more = self._store.nearest(name, replace(_some(query, short), k=asked))
            answer = replace(
                answer, exact=answer.exact and more.exact, candidates=max(answer.candidates, more.candidates)
            )
            found = dict(zip(short, more.results, strict=True))
            for row, hits in found.items():
                results[row] = _one_a_group(hits, options)
            short = [row for row, hits in found.items() if _wants_more(hits, results[row], wanted, asked)]
        return replace(answer, results=tuple(results))


def _asked(query: NearestQuery, options: SearchOptions) -> int:
    """Hits of each query that a store is first asked for: diversity and groups choose among more than the answer's."""
    wanted = max(MMR_POOL * query.k, MMR_POOL_MIN) if options.diversity > 0 else query.k
    return 4 * wanted if options.group_by else wanted


def _wants_more(hits: Hits, cut: Hits, wanted: int, asked: int) -> bool:
    """Whether a query has too few hits after its groups are cut, and there may be more."""
    return len(cut.hits) < wanted and len(hits.hits) >= asked


def _some(query: NearestQuery, rows: Sequence[int]) -> NearestQuery:
    """The search for some of its queries."""
    if isinstance(query.queries, ExampleVectors):
        return query
    excluded = tuple(query.excluded[row] for row in rows) if query.excluded else ()
    return replace(query, queries=query.queries[list(rows)], excluded=excluded)


def _check_bytes(what: str, hits: int, dim: int) -> None:
    """Refuses an answer, or what a search takes in memory meanwhile, that is too large.

    Args:
        dim: numbers in the vector of each hit; 0 for none.
    """
    size = hits * (HIT_BYTES + 4 * dim)
    most = ANSWER_BYTES if what == "answer" else SEARCH_BYTES
    if size > most:
        raise InvalidInput(
            f"the {what} would take about {size:,} bytes, at most {most:,} fit",
            field="k",
            reason="ANSWER_TOO_LARGE",
            fix="send fewer queries, ask for fewer hits, or leave the vectors, the groups or diversity out",
        )


def _check_options(options: SearchOptions, query: Query) -> None:
    if options.k < 1 or options.offset < 0 or options.k + options.offset > MAX_RESULTS:
        raise InvalidInput(
            f"k {options.k} and offset {options.offset} make {options.k + options.offset} hits, "
            f"allowed are 1 to {MAX_RESULTS}",
            field="k",
            reason="TOO_MANY",
            fix="ask for fewer hits, or scan",
        )
    is_cosine = not isinstance(query, ByExamples) or query.strategy is ExampleStrategy.AVERAGE
    least = options.min_score
    if least is not None and not (-1 <= least <= 1 if is_cosine else math.isfinite(least)):
        allowed = "lie in [-1, 1]" if is_cosine else "be a finite number"
        raise InvalidInput(f"min_score is {least}, it must {allowed}", field="min_score", reason="BAD_SCORE")
    if not 0 <= options.diversity <= 1:
        raise InvalidInput(
            f"diversity is {options.diversity}, it must lie in [0, 1]", field="diversity", reason="BAD_DIVERSITY"
        )
    if options.group_by:
        check_field_name(options.group_by)
        if options.group_size < 1:
            raise InvalidInput("group_size must be at least 1", field="group_size", reason="BAD_GROUP_SIZE")


def _check_count(count: int, what: str) -> None:
    if not 1 <= count <= MAX_RESULTS:
        raise InvalidInput(
            f"{count} {what} were given, allowed are 1 to {MAX_RESULTS}",
            field="query",
            reason="TOO_MANY" if count else "NO_QUERY",
        )


def _all_cut(answer: SearchAnswer, options: SearchOptions) -> SearchAnswer:
    results = tuple(_cut(hits, options) for hits in answer.results)
    if all(cut is hits for cut, hits in zip(results, answer.results, strict=True)):
        return answer
    return replace(answer, results=results)


def _cut(hits: Hits, options: SearchOptions) -> Hits:
    """The hits after diversity and offset, with only what was asked for."""
    surplus = (not options.with_vectors and hits.vectors is not None) or (
        not options.with_fields and any(hit.fields for hit in hits.hits)
    )
    if not (options.diversity or options.offset or surplus) and len(hits.hits) <= options.k:
        return hits  # nothing to cut: the usual search
    rows = np.arange(len(hits.hits))
    if options.diversity > 0 and hits.vectors is not None:
        relevance = np.array([hit.score for hit in hits.hits])
        rows = mmr(relevance, hits.vectors.matrix, options.offset + options.k, options.diversity)
    return _taken(hits, rows[options.offset : options.offset + options.k], options.with_vectors, options.with_fields)


def _one_a_group(hits: Hits, options: SearchOptions) -> Hits:
    seen: Counter[object] = Counter()
    rows = []
    for row, hit in enumerate(hits.hits):
        value = hit.fields.get(options.group_by)
        key = (type(value), value)
        if value is None or seen[key] < options.group_size:
            rows.append(row)
        seen[key] += 1
    return _taken(hits, np.array(rows, np.int64), True, True)


def _taken(hits: Hits, rows: NDArray[np.int64], with_vectors: bool, with_fields: bool) -> Hits:
    chosen = [hits.hits[row] for row in rows.tolist()]
    if not with_fields:
        chosen = [replace(hit, fields={}) for hit in chosen]
    vectors = None
    if with_vectors and hits.vectors is not None:
        vectors = VectorSet([hit.image_id for hit in chosen], hits.vectors.matrix[rows], hits.vectors.model_id)
    return Hits(tuple(chosen), vectors)
