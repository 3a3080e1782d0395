# SPDX-License-Identifier: GPL-3.0-or-later
"""The other services as the controller's use cases want them: typed clients behind the protocols of `service.peers`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from gandt.client.aggregation import AggregationClient
from gandt.client.connection import Channel
from gandt.client.embedding import EmbeddingClient
from gandt.client.selection import SelectionClient
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.aggregation.records import AggregateSpec, MethodInfo, PlanSpec, WorkerReport
from gandt.domain.catalog import WorkerRecord
from gandt.domain.datasets import LabelEstimate
from gandt.domain.errors import GandtError
from gandt.domain.filters import Ids
from gandt.domain.labeling.rounds import Pick
from gandt.domain.search_records import Collection
from gandt.domain.selection.records import PoolSource, SelectSpec, StrategyInfo
from gandt.domain.vectors import VectorSet
from gandt_jobcontroller.service.peers import (
    AggregationAnswer,
    AggregationQuestion,
    EmbeddingModel,
    SelectionAnswer,
    SelectionQuestion,
)


class RemoteSelector:
    """A `service.peers.Selector` on the selection service."""

    def __init__(self, channel: Channel) -> None:
        self._client = SelectionClient(cast(Any, channel))

    def select(self, question: SelectionQuestion) -> SelectionAnswer:
        """See the protocol."""
        spec = SelectSpec(
            pool=PoolSource(collection=question.collection, model_id=question.model_id),
            strategy=question.strategy,
            target_labels=question.target_labels,
            other_label=question.other_label,
            count=question.count,
            control_fraction=question.control_fraction,
            seed=question.seed,
            round=question.round,
            request_id=question.request_id,
            found_before=question.found_before,
        )
        result = self._client.select(spec, question.labeled, tuple(question.excluded), question.groups)
        picks = tuple(
            Pick(
                image_id=pick.image_id,
                rank=pick.rank,
                score=pick.score,
                reason=pick.reason,
                arm=pick.arm.value,
                inclusion_probability=pick.inclusion_probability,
                pool_size=pick.pool_size,
            )
            for pick in result.picks
        )
        summary = result.summary
        return SelectionAnswer(picks, summary.strategy, summary.explanation, summary.warnings)

    def strategies(self) -> list[StrategyInfo]:
        """See the protocol."""
        return self._client.list_strategies()


class RemoteAggregator:
    """A `service.peers.Aggregator` on the aggregation service.

    Args:
        target_confidence: probability that a label must reach before an image is asked no more, in (0, 1].
    """

    def __init__(self, channel: Channel, target_confidence: float) -> None:
        self._client = AggregationClient(channel)
        self._target_confidence = target_confidence

    def aggregate(self, question: AggregationQuestion) -> AggregationAnswer:
        """See the protocol."""
        result = self._client.aggregate(question.answers, _spec(question), _gold(question))
        estimates = tuple(
            LabelEstimate(i.image_id, i.labels, i.confidence, i.status, i.answers, i.agreeing)
            for i in result.items
            if not i.gold
        )
        workers = tuple(_worker(report) for report in result.workers)
        return AggregationAnswer(estimates, workers, result.summary.method, result.summary.warnings)

    def wants_more(self, question: AggregationQuestion, max_answers: int) -> set[str]:
        """See the protocol."""
        plan = PlanSpec(
            aggregate=_spec(question),
            target_confidence=self._target_confidence,
            min_answers=min(question.min_answers, max_answers),
            max_answers=max_answers,
        )
        return {image.image_id for image in self._client.plan_answers(question.answers, plan, _gold(question)).images}

    def methods(self) -> list[MethodInfo]:
        """See the protocol."""
        return self._client.list_methods()


class RemoteVectors:
    """A `service.peers.Vectors`, and what embedding jobs need, on the vector search service."""

    def __init__(self, channel: Channel) -> None:
        self._client = VectorSearchClient(channel)

    def describe(self, collection: str) -> Collection:
        """See the protocol."""
        return self._client.get_collection(collection)

    def point_alias(self, alias: str, collection: Collection) -> None:
        """See the protocol."""
        self._client.create_collection(collection.name, collection.dim, collection.model_id, alias)

    def near_groups(self, collection: str) -> dict[str, str]:
        """See the protocol."""
        groups = self._client.find_near_duplicates(collection).groups
        return {
            member.image_id: group.representative_id
            for group in groups
            if len(group.members) > 1
            for member in group.members
        }

    def ensure(self, collection: str, dim: int, model_id: str) -> int:
        """Create the collection unless it is there; how many vectors it has."""
        return self._client.create_collection(collection, dim, model_id).items

    def stored(self, collection: str, image_ids: Sequence[str]) -> Sequence[str]:
        """Those of some images that have a vector."""
        blocks = self._client.scan_items(collection, Ids(tuple(image_ids)), with_vectors=False, with_fields=False)
        return [image_id for block in blocks for image_id in block.ids]

    def upsert(self, collection: str, block: VectorSet) -> Sequence[tuple[str, GandtError]]:
        """Store a block durably; returns what was refused."""
        return [(item.image_id, item.error) for item in self._client.upsert(collection, block).rejected]


class RemoteEmbedder:
    """A `service.peers.Embedder` on the embedding service."""

    def __init__(self, client: EmbeddingClient) -> None:
        self._client = client

    def model(self, model_id: str) -> EmbeddingModel:
        """See the protocol."""
        info = self._client.get_model(model_id)
        return EmbeddingModel(info.model_id, info.name, info.dim)


def _spec(question: AggregationQuestion) -> AggregateSpec:
    return AggregateSpec(
        method=question.method,
        classes=question.space.classes,
        multi_label=question.space.multi_label,
        min_answers=question.min_answers,
    )


def _gold(question: AggregationQuestion) -> dict[str, tuple[str, ...]]:
    """Known answers to images that were asked; the others would come back as images without answers."""
    asked = {answer.image_id for answer in question.answers}
    return {gold.image_id: gold.labels for gold in question.gold if gold.image_id in asked}


def _worker(report: WorkerReport) -> WorkerRecord:
    def known(value: float | None) -> float:
        return -1.0 if value is None else value

    estimated = report.estimated_accuracy is not None
    return WorkerRecord(
        worker_id=report.worker_id,
        answers=report.answers,
        reliability=known(report.reliability),
        low=report.low,
        high=report.high,
        gold_accuracy=known(report.gold_accuracy),
        verdict=report.verdict.value,
        estimated_accuracy=known(report.estimated_accuracy),
        estimated_low=report.estimated_low if estimated else -1.0,
        estimated_high=report.estimated_high if estimated else -1.0,
        one_label_share=known(report.one_label_share),
        spammer_score=known(report.spammer_score),
        too_fast_share=known(report.too_fast_share),
    )
