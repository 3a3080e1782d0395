# SPDX-License-Identifier: GPL-3.0-or-later
"""Search: queries by vectors, ids or examples; groups, diversity and offset on top of a store's nearest items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
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
from gandt.domain.vectors import VectorSet
from gandt.ports.clock import NO_DEADLINE, Clock, Deadline
from gandt.ports.meter import Meter
from gandt.ports.vector_store import VectorStore
from gandt_vectorsearch.service import ANSWER_BYTES, RECALL_CANARY, SEARCH_SECONDS, VectorSearch

MMR_POOL = 4  # candidates for each hit that diversity chooses from
MMR_POOL_MIN = 100
CANARY_EVERY = 100  # approximate searches between two that are repeated exactly,
CANARY_SECONDS = 1.0  # and at least so long: an exact search takes fifty times as long


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
    """

    def __init__(self, store: VectorStore, service: VectorSearch, meter: Meter, clock: Clock) -> None:
        self._store = store
        self._service = service
        self._meter = meter
        self._clock = clock
        self._approximate = CANARY_EVERY  # searches since the last canary; the first one is a canary
        self._canary_after = float("-inf")  # seconds of the clock

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
        name = self._service.get_collection(name).name  # an alias may be switched meanwhile
        nearest = self._prepared(name, query, options, model_id, deadline)
        answer = self._answered(name, nearest, options)
        self._note(name, query, options, nearest, answer, began)
        return answer

    def search_together(self, name: str, calls: Sequence[SearchCall]) -> list[SearchAnswer | GandtError]:
        """Some calls that differ in query, k, offset and min_score only, answered by one search of the store.

        Returns:
            For each call what `search` would have answered or raised.
        """
        began = self._clock.monotonic()
        try:
            name = self._service.get_collection(name).name  # an alias may be switched meanwhile
        except GandtError as error:
            return [error] * len(calls)
        prepared: list[NearestQuery | GandtError] = []
        for call in calls:
            try:
                prepared.append(self._prepared(name, call.query, call.options, call.model_id, call.deadline))
            except GandtError as error:
                prepared.append(error)
        good = [nearest for nearest in prepared if not isinstance(nearest, GandtError)]
        try:
            answers = iter(apart(self._store.nearest(name, joined(good)), good) if good else [])
        except GandtError as error:
            return [nearest if isinstance(nearest, GandtError) else error for nearest in prepared]
        out: list[SearchAnswer | GandtError] = []
        for call, nearest in zip(calls, prepared, strict=True):
            if isinstance(nearest, GandtError):
                out.append(nearest)
                continue
            answer = next(answers)
            answer = replace(answer, results=tuple(_cut(hits, call.options) for hits in answer.results))
            self._note(name, call.query, call.options, nearest, answer, began)
            out.append(answer)
        return out

    def _prepared(
        self, name: str, query: Query, options: SearchOptions, model_id: str, deadline: Deadline
    ) -> NearestQuery:
        """The checked search, as stores answer it. Raises as `search`."""
        deadline.check()
        collection = self._service.of_model(name, model_id)
        _check_options(options)
        nearest = self._resolved(collection, query, options)
        self._check_size(collection, nearest, options)
        deadline.check()
        return nearest

    def _note(
        self,
        name: str,
        query: Query,
        options: SearchOptions,
        nearest: NearestQuery,
        answer: SearchAnswer,
        began: float,
    ) -> None:
        kind = {ByVectors: "vectors", ByIds: "ids", ByExamples: "examples"}[type(query)]
        self._meter.observe(SEARCH_SECONDS, self._clock.monotonic() - began, query=kind, index=answer.index)
        self._watch_recall(name, nearest, options, answer)

    def _resolved(self, collection: Collection, query: Query, options: SearchOptions) -> NearestQuery:
        base = NearestQuery(
            queries=np.zeros((0, collection.dim), np.float32),
            k=options.offset + options.k,
            condition=options.condition,
            min_score=options.min_score,
            exact=options.exact,
            with_vectors=options.with_vectors or options.diversity > 0,
            with_fields=options.with_fields or bool(options.group_by),
        )
        if isinstance(query, ByVectors):
            _check_count(len(query.matrix), "query vectors")
            for row, problem in enumerate(vector_problems(query.matrix, collection.dim)):
                if problem:
                    raise InvalidInput(f"query vector {row} {problem}", field="vectors", reason="BAD_VECTOR")
            return replace(base, queries=np.asarray(query.matrix, np.float32))
        if isinstance(query, ByIds):
            _check_count(len(query.ids), "ids")
            queries = self._vectors(collection.name, query.ids)
            excluded = () if query.include_self else tuple(frozenset((image_id,)) for image_id in query.ids)
            return replace(base, queries=queries, excluded=excluded)
        return self._examples(collection.name, query, base)

    def _examples(self, name: str, query: ByExamples, base: NearestQuery) -> NearestQuery:
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
        return replace(base, queries=vectors, excluded=(frozenset(example.image_id for example in examples),))

    def _vectors(self, name: str, ids: Sequence[str]) -> NDArray[np.float32]:
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
        row = 80 + (4 * collection.dim if options.with_vectors else 0)
        size = count * min(options.k, max(1, collection.items)) * row
        if size > ANSWER_BYTES:
            raise InvalidInput(
                f"the answer would take about {size:,} bytes, at most {ANSWER_BYTES:,} fit",
                field="k",
                reason="ANSWER_TOO_LARGE",
                fix="send fewer queries, ask for fewer hits, or leave the vectors out",
            )

    def _answered(self, name: str, query: NearestQuery, options: SearchOptions) -> SearchAnswer:
        wanted = query.k
        if options.diversity > 0:
            wanted = max(MMR_POOL * query.k, MMR_POOL_MIN)
        if options.group_by:
            answer = self._grouped(name, query, options, wanted)
        else:
            answer = self._store.nearest(name, replace(query, k=wanted))
        return replace(answer, results=tuple(_cut(hits, options) for hits in answer.results))

    def _grouped(self, name: str, query: NearestQuery, options: SearchOptions, wanted: int) -> SearchAnswer:
        """Asks for more and more hits until each query has enough after its groups are cut."""
        asked = 4 * wanted
        while True:
            answer = self._store.nearest(name, replace(query, k=asked))
            results = tuple(_one_a_group(hits, options) for hits in answer.results)
            full = all(
                len(cut.hits) >= wanted or len(hits.hits) < asked
                for cut, hits in zip(results, answer.results, strict=True)
            )
            if full or asked >= answer.candidates:
                return replace(answer, results=results)
            asked *= 4

    def _watch_recall(self, name: str, query: NearestQuery, options: SearchOptions, answer: SearchAnswer) -> None:
        """Sets the recall of searches: 1 when exact; an approximate one is repeated exactly now and then."""
        if answer.exact:
            self._meter.set_level(RECALL_CANARY, 1.0)
            return
        self._approximate += 1
        now = self._clock.monotonic()
        if self._approximate >= CANARY_EVERY and now >= self._canary_after:
            self._approximate, self._canary_after = 0, now + CANARY_SECONDS
            truth = self._answered(name, replace(query, exact=True), options)
            self._meter.set_level(RECALL_CANARY, _recall(answer, truth))


def _check_options(options: SearchOptions) -> None:
    if options.k < 1 or options.offset < 0 or options.k + options.offset > MAX_RESULTS:
        raise InvalidInput(
            f"k {options.k} and offset {options.offset} make {options.k + options.offset} hits, "
            f"allowed are 1 to {MAX_RESULTS}",
            field="k",
            reason="TOO_MANY",
            fix="ask for fewer hits, or scan",
        )
    if options.min_score is not None and not -1 <= options.min_score <= 1:
        raise InvalidInput(
            f"min_score is {options.min_score}, it must lie in [-1, 1]", field="min_score", reason="BAD_SCORE"
        )
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


def _recall(answer: SearchAnswer, truth: SearchAnswer) -> float:
    found = wanted = 0
    for got, true in zip(answer.results, truth.results, strict=True):
        right = {hit.image_id for hit in true.hits}
        wanted += len(right)
        found += len(right & {hit.image_id for hit in got.hits})
    return found / wanted if wanted else 1.0
