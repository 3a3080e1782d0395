# SPDX-License-Identifier: GPL-3.0-or-later
"""Search of gandt.vectorsearch.v1: requests and answers, to and from the domain's records."""

from __future__ import annotations

from collections.abc import Iterable

from gandt.api.vectorsearch.v1 import vectorsearch_pb2 as pb
from gandt.domain.errors import InvalidInput
from gandt.domain.search_records import Example, ExampleStrategy, Hit, Hits, SearchAnswer, SearchOptions
from gandt.wire import types
from gandt.wire.vectorsearch import fields_message, within_limit

_STRATEGIES: dict[int, ExampleStrategy] = {
    pb.EXAMPLE_STRATEGY_UNSPECIFIED: ExampleStrategy.AVERAGE,
    pb.EXAMPLE_STRATEGY_AVERAGE: ExampleStrategy.AVERAGE,
    pb.EXAMPLE_STRATEGY_BEST_SCORE: ExampleStrategy.BEST_SCORE,
    pb.EXAMPLE_STRATEGY_SUM_SCORES: ExampleStrategy.SUM_SCORES,
}


def examples(messages: Iterable[pb.Example]) -> tuple[Example, ...]:
    """Examples; weight 0 on the wire means 1."""
    return tuple(Example(message.image_id, message.weight or 1.0) for message in messages)


def example_messages(given: Iterable[Example]) -> list[pb.Example]:
    """Examples as messages."""
    return [pb.Example(image_id=example.image_id, weight=example.weight) for example in given]


def strategy(value: int) -> ExampleStrategy:
    """How examples are combined; unspecified is AVERAGE. Raises InvalidInput on a number that is not in the enum."""
    if value not in _STRATEGIES:
        raise InvalidInput(f"strategy {value} is unknown", field="examples.strategy", reason="BAD_STRATEGY")
    return _STRATEGIES[value]


def strategy_message(value: ExampleStrategy) -> pb.ExampleStrategy.ValueType:
    """How examples are combined, as a message value."""
    return pb.ExampleStrategy.Value(f"EXAMPLE_STRATEGY_{value.name}")


def search_options(message: pb.SearchRequest) -> SearchOptions:
    """How hits are chosen; k 0 means 10, group_size 0 means 1. Raises InvalidInput on a bad filter."""
    return SearchOptions(
        k=message.k or 10,
        offset=message.offset,
        condition=types.filter_of(message.filter if message.HasField("filter") else None),
        min_score=message.min_score if message.HasField("min_score") else None,
        group_by=message.group_by,
        group_size=message.group_size or 1,
        diversity=message.diversity,
        exact=message.exact,
        with_vectors=message.with_vectors,
        with_fields=message.with_fields,
    )


def search_request(name: str, options: SearchOptions, model_id: str) -> pb.SearchRequest:
    """A search without its query."""
    return pb.SearchRequest(
        collection=name,
        k=options.k,
        offset=options.offset,
        filter=types.filter_message(options.condition),
        min_score=options.min_score,
        group_by=options.group_by,
        group_size=options.group_size,
        diversity=options.diversity,
        exact=options.exact,
        with_vectors=options.with_vectors,
        with_fields=options.with_fields,
        model_id=model_id,
    )


def search_answer(message: pb.SearchResponse, model_id: str = "") -> SearchAnswer:
    """The hits of each query."""
    results = tuple(
        Hits(
            tuple(
                Hit(hit.image_id, hit.score, types.fields_of(hit.fields.values) if hit.HasField("fields") else {})
                for hit in hits.hits
            ),
            types.vector_set(hits.vectors, model_id=model_id) if hits.HasField("vectors") else None,
        )
        for hits in message.results
    )
    return SearchAnswer(results, message.exact, message.candidates, message.index, message.generation)


def search_answer_message(answer: SearchAnswer) -> pb.SearchResponse:
    """The hits of each query, as a message of at most 32 MiB. Raises InvalidInput beyond."""
    results = [
        pb.Hits(
            hits=[
                pb.Hit(
                    image_id=hit.image_id,
                    score=hit.score,
                    fields=fields_message(hit.fields) if hit.fields else None,
                )
                for hit in hits.hits
            ],
            vectors=types.vector_block(hits.vectors) if hits.vectors is not None else None,
        )
        for hits in answer.results
    ]
    return within_limit(
        pb.SearchResponse(
            results=results,
            exact=answer.exact,
            candidates=answer.candidates,
            index=answer.index,
            generation=answer.generation,
        )
    )
