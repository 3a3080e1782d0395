# SPDX-License-Identifier: GPL-3.0-or-later
"""What vector search takes and gives: collections, items with fields, queries, hits and duplicates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import GandtError
from gandt.domain.fields import FieldValue
from gandt.domain.filters import Filter
from gandt.domain.progress import Progress
from gandt.domain.vectors import VectorSet

MAX_RESULTS = 16_384  # a Milvus cluster's limit on k + offset, on queries and on ids, applied everywhere
Fields = Mapping[str, FieldValue]


@dataclass(frozen=True, slots=True)
class Collection:
    """A set of vectors of one model.

    Attributes:
        name: 1 to 255 characters of [A-Za-z0-9_], starting with a letter or underscore.
        dim: numbers in a vector, 1 to 32768.
        model_id: fingerprint of the model whose vectors it holds.
        items: items stored.
        generation: grows with every acknowledged change.
        aliases: other names that lead to it, in order.
    """

    name: str
    dim: int
    model_id: str
    items: int = 0
    generation: int = 0
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemSet:
    """Some items of a collection.

    Attributes:
        vectors: ids and vectors; f32[N, 0] where vectors were not asked for.
        fields: one mapping a row, or () where there are none or they were not asked for.
    """

    vectors: VectorSet
    fields: Sequence[Fields] = ()

    @property
    def ids(self) -> Sequence[str]:
        """Ids in row order."""
        return self.vectors.ids

    def __len__(self) -> int:
        return len(self.vectors)

    def slice(self, start: int, stop: int) -> ItemSet:
        """Some consecutive items, without copying vectors."""
        if start == 0 and stop >= len(self):
            return self
        vectors = VectorSet(self.ids[start:stop], self.vectors.matrix[start:stop], self.vectors.model_id)
        return ItemSet(vectors, self.fields[start:stop])


@dataclass(frozen=True, slots=True)
class Found:
    """Items asked for by id: the found ones in request order, and the ids that are not there."""

    items: ItemSet
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """An open scan: what matches, and the items in id order.

    Attributes:
        generation: of the collection when the scan began; later changes do not show.
        total: items that match.
        blocks: the items, each block as large as asked.
    """

    dim: int
    generation: int
    total: int
    blocks: Iterator[ItemSet]


class ExampleStrategy(StrEnum):
    """How positive and negative examples become one score."""

    AVERAGE = "average"
    BEST_SCORE = "best_score"
    SUM_SCORES = "sum_scores"


@dataclass(frozen=True, slots=True)
class Example:
    """An item to be near to or far from; `weight` is above 0."""

    image_id: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Hit:
    """One item found. `score` is a cosine similarity in [-1, 1] or a strategy's score; larger is nearer."""

    image_id: str
    score: float
    fields: Fields = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Hits:
    """The hits of one query, best first, ties by id; their vectors where they were asked for."""

    hits: tuple[Hit, ...]
    vectors: VectorSet | None = None


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """The hits a query, and how they were found.

    Attributes:
        exact: whether no nearer item can exist.
        candidates: items compared with a query; by an index on a server, those that it may have compared.
        index: what answered: `resident`, or Milvus' index type.
        generation: of the collection that was searched.
    """

    results: tuple[Hits, ...]
    exact: bool
    candidates: int
    index: str
    generation: int


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How the hits of a search are chosen.

    Attributes:
        k: hits a query; 1 to 16384 together with `offset`.
        offset: hits to skip.
        condition: items to look at; None for all.
        min_score: smallest score to return; None for no limit.
        group_by: field whose value appears at most `group_size` times; items without it are no group and all stay.
        diversity: share of maximal marginal relevance in [0, 1]; 0 is off.
        exact: exact even where an approximate index would answer.
    """

    k: int = 10
    offset: int = 0
    condition: Filter | None = None
    min_score: float | None = None
    group_by: str = ""
    group_size: int = 1
    diversity: float = 0.0
    exact: bool = False
    with_vectors: bool = False
    with_fields: bool = False


@dataclass(frozen=True, slots=True)
class ExampleVectors:
    """Examples as vectors: one query.

    Attributes:
        positives: f32[P, D], of any length but zero.
        negatives: f32[M, D]; P + M is at least 1.
        positive_weights, negative_weights: f64[P], f64[M], above 0.
    """

    positives: NDArray[np.float32]
    negatives: NDArray[np.float32]
    positive_weights: NDArray[np.float64]
    negative_weights: NDArray[np.float64]
    strategy: ExampleStrategy = ExampleStrategy.AVERAGE


@dataclass(frozen=True, slots=True)
class NearestQuery:
    """A plain search, as stores answer it.

    Attributes:
        queries: f32[Q, D], none of length zero; or examples, which are one query.
        k: most hits a query.
        excluded: one set of ids a query that must not appear; () excludes none.
    """

    queries: NDArray[np.float32] | ExampleVectors
    k: int
    condition: Filter | None = None
    min_score: float | None = None
    excluded: tuple[frozenset[str], ...] = ()
    exact: bool = False
    with_vectors: bool = False
    with_fields: bool = False


@dataclass(frozen=True, slots=True)
class RejectedItem:
    """An item that was not stored: its position in the whole stream from 0, its id, and why."""

    sequence: int
    image_id: str
    error: GandtError


@dataclass(frozen=True, slots=True)
class UpsertAck:
    """What the store has.

    Attributes:
        acknowledged: items of the stream that are dealt with: stored or rejected.
        stored: items of the stream that are stored.
        generation: of the collection after them.
        rejected: items refused since the last acknowledgment.
    """

    acknowledged: int
    stored: int
    generation: int
    rejected: tuple[RejectedItem, ...] = ()


@dataclass(frozen=True, slots=True)
class Deleted:
    """Ids that existed and are gone (or would go), and the generation afterwards."""

    ids: tuple[str, ...]
    generation: int


DuplicateMode = Literal["pairs", "groups"]
DuplicateKeep = Literal["central", "order"]  # which member represents a group: the most central, or the smallest id


@dataclass(frozen=True, slots=True)
class DuplicatePair:
    """Two similar items, the smaller id first, with their cosine similarity."""

    first_id: str
    second_id: str
    score: float


@dataclass(frozen=True, slots=True)
class DuplicateMember:
    """A member of a group; `similarity` is the cosine to the representative, 1 for itself."""

    image_id: str
    similarity: float


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """A connected group of similar items: the member that represents it, and all members by id."""

    representative_id: str
    members: tuple[DuplicateMember, ...]


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """One report of a near-duplicate search: how far it is, and what was found since the last one.

    Attributes:
        exact: whether all pairs are compared; otherwise some may be missed.
        truncated: whether there are more pairs than were asked for.
    """

    progress: Progress
    pairs: tuple[DuplicatePair, ...] = ()
    groups: tuple[DuplicateGroup, ...] = ()
    exact: bool = True
    truncated: bool = False
