# SPDX-License-Identifier: GPL-3.0-or-later
"""Several searches as one: their queries share a matrix product, and each gets its own answer back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.search_records import ExampleVectors, Hits, NearestQuery, SearchAnswer
from gandt.domain.vectors import VectorSet

_NONE: frozenset[str] = frozenset()


def joined(searches: Sequence[NearestQuery]) -> NearestQuery:
    """One search for all: the largest k, no least score, all queries in order.

    Args:
        searches: at least one; they agree in condition, exact, with_vectors and with_fields, and none has examples.
    """
    if len(searches) == 1:
        return searches[0]
    excluded: tuple[frozenset[str], ...] = ()
    if any(search.excluded for search in searches):
        excluded = tuple(ids for search in searches for ids in search.excluded or [_NONE] * len(_queries(search)))
    return replace(
        searches[0],
        queries=np.concatenate([_queries(search) for search in searches]),
        k=max(search.k for search in searches),
        min_score=None,
        excluded=excluded,
    )


def apart(answer: SearchAnswer, searches: Sequence[NearestQuery]) -> list[SearchAnswer]:
    """The answer of each of the searches that were joined. The best k are the first k of more."""
    out = []
    start = 0
    for search in searches:
        stop = start + len(_queries(search))
        out.append(replace(answer, results=tuple(_best(hits, search) for hits in answer.results[start:stop])))
        start = stop
    return out


def _queries(search: NearestQuery) -> NDArray[np.float32]:
    if isinstance(search.queries, ExampleVectors):
        raise TypeError("a search by examples is no list of queries")
    return search.queries


def _best(hits: Hits, search: NearestQuery) -> Hits:
    count = min(search.k, len(hits.hits))
    while count and search.min_score is not None and hits.hits[count - 1].score < search.min_score:
        count -= 1
    if count == len(hits.hits):
        return hits
    vectors = hits.vectors
    if vectors is not None:
        vectors = VectorSet(vectors.ids[:count], vectors.matrix[:count], vectors.model_id)
    return Hits(hits.hits[:count], vectors)
