# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller asks of the other services, in the controller's own words.

The typed clients do the talking; `gandt_jobcontroller.remote_peers` fits them to these protocols, tests use fakes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gandt.domain.aggregation.records import MethodInfo
from gandt.domain.catalog import KnownLabel, WorkerRecord
from gandt.domain.datasets import Answer, LabeledImage, LabelEstimate, LabelSpace
from gandt.domain.labeling.rounds import Pick
from gandt.domain.search_records import Collection as VectorCollection
from gandt.domain.selection.records import StrategyInfo


@dataclass(frozen=True, slots=True)
class SelectionQuestion:
    """Which images to label next.

    Attributes:
        collection, model_id: where the vectors are, and of which model.
        labeled: what is known.
        excluded: images that must not be picked.
        groups: near-duplicate group by image; images on their own are not listed.
        found_before: targets found before this round.
    """

    collection: str
    model_id: str
    strategy: str
    target_labels: tuple[str, ...]
    other_label: str
    count: int
    control_fraction: float
    seed: int
    round: int
    labeled: Sequence[LabeledImage]
    excluded: Collection[str]
    groups: Mapping[str, str]
    found_before: int = 0
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class SelectionAnswer:
    """Picks in rank order, the strategy that was used, and why."""

    picks: tuple[Pick, ...]
    strategy: str
    explanation: str
    warnings: tuple[str, ...] = ()


class Selector(Protocol):
    """Chooses images."""

    def select(self, question: SelectionQuestion) -> SelectionAnswer:
        """Pick at most `question.count` images; none when nothing is left."""
        ...

    def strategies(self) -> list[StrategyInfo]:
        """The strategies on offer."""
        ...


@dataclass(frozen=True, slots=True)
class AggregationQuestion:
    """Which labels follow from answers.

    Attributes:
        answers: all of a campaign, in the order in which duplicates count (the first one).
        gold: known answers; they measure workers.
        min_answers: fewest votes for certainty.
    """

    space: LabelSpace
    method: str
    answers: Sequence[Answer]
    gold: Sequence[KnownLabel] = ()
    min_answers: int = 2


@dataclass(frozen=True, slots=True)
class AggregationAnswer:
    """Verdicts on all images that were answered, gold left out, and what is known of the workers."""

    estimates: tuple[LabelEstimate, ...]
    workers: tuple[WorkerRecord, ...]
    method: str
    warnings: tuple[str, ...] = ()


class Aggregator(Protocol):
    """Makes labels of answers."""

    def aggregate(self, question: AggregationQuestion) -> AggregationAnswer:
        """Labels of all images."""
        ...

    def wants_more(self, question: AggregationQuestion, max_answers: int) -> set[str]:
        """Images with fewer than `max_answers` answers that are not sure enough yet."""
        ...

    def methods(self) -> list[MethodInfo]:
        """The methods on offer."""
        ...


class Vectors(Protocol):
    """The collections of the vector search service."""

    def describe(self, collection: str) -> VectorCollection:
        """A collection as it is.

        Raises:
            NotFound: there is no such collection.
        """
        ...

    def point_alias(self, alias: str, collection: VectorCollection) -> None:
        """Make an alias lead to a collection from now on, in one moment."""
        ...

    def near_groups(self, collection: str) -> dict[str, str]:
        """Near-duplicate group by image; images on their own are not listed."""
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """The model that the embedding service offers."""

    model_id: str
    name: str
    dim: int


class Embedder(Protocol):
    """The embedding service, as far as starting a job needs it."""

    def model(self, model_id: str) -> EmbeddingModel:
        """The model of a fingerprint, or the default for "".

        Raises:
            WrongState, NotFound: the service has another model.
        """
        ...


@dataclass(frozen=True, slots=True)
class Peers:
    """The services that the controller drives."""

    selector: Selector
    aggregator: Aggregator
    vectors: Vectors
    embedder: Embedder
