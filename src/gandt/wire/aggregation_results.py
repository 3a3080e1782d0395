# SPDX-License-Identifier: GPL-3.0-or-later
"""Results of gandt.aggregation.v1: verdicts on images and workers, summaries, agreement and plans."""

from __future__ import annotations

import numpy as np

from gandt.api.aggregation.v1 import aggregation_pb2 as pb
from gandt.domain.aggregation.records import (
    AggregateSummary,
    Agreement,
    ItemVerdict,
    PlannedImage,
    PlanSummary,
    Verdict,
    WorkerReport,
)
from gandt.domain.datasets import LabelStatus
from gandt.domain.progress import Progress
from gandt.wire import types

Event = Progress | list[ItemVerdict] | list[WorkerReport] | AggregateSummary
"""What an aggregation streams back; lists are never empty."""

UNKNOWN = -1.0  # the contract's "not known" in shares
_STATUSES = {
    LabelStatus.CERTAIN: pb.LABEL_STATUS_CERTAIN,
    LabelStatus.UNCERTAIN: pb.LABEL_STATUS_UNCERTAIN,
    LabelStatus.TIED: pb.LABEL_STATUS_TIED,
    LabelStatus.UNLABELED: pb.LABEL_STATUS_UNLABELED,
}
_STATUS_OF = {number: status for status, number in _STATUSES.items()}
_VERDICTS = {
    Verdict.RELIABLE: pb.VERDICT_RELIABLE,
    Verdict.UNRELIABLE: pb.VERDICT_UNRELIABLE,
    Verdict.UNKNOWN: pb.VERDICT_UNKNOWN,
}
_VERDICT_OF = {number: verdict for verdict, number in _VERDICTS.items()}


def event_message(event: Event) -> pb.AggregateResponse:
    """One event of an aggregation as a response."""
    if isinstance(event, Progress):
        return pb.AggregateResponse(progress=types.progress_message(event))
    if isinstance(event, AggregateSummary):
        return pb.AggregateResponse(summary=summary_message(event))
    response = pb.AggregateResponse()
    for record in event:
        if isinstance(record, ItemVerdict):
            response.items.items.append(item_message(record))
        else:
            response.workers.workers.append(worker_message(record))
    return response


def stored_message(event: Event) -> pb.AggregateStoredResponse:
    """One event of an aggregation of stored answers as a response."""
    return pb.AggregateStoredResponse(response=event_message(event))


def event(message: pb.AggregateResponse) -> Event:
    """A response as the event that it is; an unknown kind is empty progress."""
    kind = message.WhichOneof("message")
    if kind == "items":
        return [item(record) for record in message.items.items]
    if kind == "workers":
        return [worker(record) for record in message.workers.workers]
    if kind == "summary":
        return summary(message.summary)
    return types.progress(message.progress)


def item_message(value: ItemVerdict) -> pb.Item:
    """A verdict on an image as a message."""
    return pb.Item(
        image_id=value.image_id,
        labels=value.labels,
        confidence=value.confidence,
        status=_STATUSES[value.status],
        answers=value.answers,
        agreeing=value.agreeing,
        posterior=np.array(value.posterior, "<f4").tobytes() if value.posterior else b"",
        job=value.job,
        description=value.description,
        gold=value.gold,
    )


def item(message: pb.Item) -> ItemVerdict:
    """A verdict on an image."""
    return ItemVerdict(
        image_id=message.image_id,
        labels=tuple(message.labels),
        confidence=message.confidence,
        status=_STATUS_OF[message.status],
        answers=message.answers,
        agreeing=message.agreeing,
        posterior=tuple(np.frombuffer(message.posterior, "<f4").astype(float).tolist()),
        job=message.job,
        description=message.description,
        gold=message.gold,
    )


def worker_message(value: WorkerReport) -> pb.Worker:
    """What is known of one worker, as a message."""
    return pb.Worker(
        worker_id=value.worker_id,
        answers=value.answers,
        reliability=_share(value.reliability),
        low=value.low,
        high=value.high,
        gold_accuracy=_share(value.gold_accuracy),
        gold_answers=value.gold_answers,
        verdict=_VERDICTS[value.verdict],
        compat_count=value.compat_count,
        estimated_accuracy=_share(value.estimated_accuracy),
        confusion=b"" if value.confusion is None else value.confusion.astype("<f4").tobytes(),
    )


def worker(message: pb.Worker) -> WorkerReport:
    """What is known of one worker."""
    confusion = np.frombuffer(message.confusion, "<f4").astype(np.float64)
    side = round(len(confusion) ** 0.5)
    return WorkerReport(
        worker_id=message.worker_id,
        answers=message.answers,
        reliability=_known(message.reliability),
        low=message.low,
        high=message.high,
        gold_accuracy=_known(message.gold_accuracy),
        gold_answers=message.gold_answers,
        verdict=_VERDICT_OF[message.verdict],
        compat_count=message.compat_count,
        estimated_accuracy=_known(message.estimated_accuracy),
        confusion=confusion.reshape(side, side) if side else None,
    )


def summary_message(value: AggregateSummary) -> pb.AggregateSummary:
    """What was done, as a message."""
    return pb.AggregateSummary(
        method=value.method,
        explanation=value.explanation,
        classes=value.classes,
        images=value.images,
        answers=value.answers,
        repeated_answers=value.repeated_answers,
        abstentions=value.abstentions,
        unreliable_answers=value.unreliable_answers,
        iterations=value.iterations,
        converged=value.converged,
        alpha=value.alpha,
        raw_agreement=value.raw_agreement,
        warnings=value.warnings,
        state=value.state,
    )


def summary(message: pb.AggregateSummary) -> AggregateSummary:
    """What was done."""
    return AggregateSummary(
        method=message.method,
        explanation=message.explanation,
        classes=tuple(message.classes),
        images=message.images,
        answers=message.answers,
        repeated_answers=message.repeated_answers,
        abstentions=message.abstentions,
        unreliable_answers=message.unreliable_answers,
        iterations=message.iterations,
        converged=message.converged,
        alpha=message.alpha,
        raw_agreement=message.raw_agreement,
        warnings=tuple(message.warnings),
        state=message.state,
    )


def agreement_message(value: Agreement) -> pb.MeasureAgreementResponse:
    """How far workers agree, as a message."""
    return pb.MeasureAgreementResponse(
        raw_agreement=value.raw,
        alpha=value.alpha,
        fleiss_kappa=value.kappa,
        images=value.images,
        answers=value.answers,
    )


def agreement(message: pb.MeasureAgreementResponse) -> Agreement:
    """How far workers agree."""
    return Agreement(message.raw_agreement, message.alpha, message.fleiss_kappa, message.images, message.answers)


def plan_message(part: list[PlannedImage] | PlanSummary) -> pb.PlanAnswersResponse:
    """A part of a plan as a response."""
    if isinstance(part, PlanSummary):
        return pb.PlanAnswersResponse(
            summary=pb.PlanAnswersResponse.Summary(
                images=part.images,
                answers=part.answers,
                accuracy_now=part.accuracy_now,
                accuracy_after=part.accuracy_after,
            )
        )
    images = [
        pb.PlannedImage(
            image_id=image.image_id,
            answers_needed=image.answers_needed,
            confidence=image.confidence,
            reason=image.reason,
        )
        for image in part
    ]
    return pb.PlanAnswersResponse(images=pb.PlanAnswersResponse.Images(images=images))


def plan_part(message: pb.PlanAnswersResponse) -> list[PlannedImage] | PlanSummary:
    """A response as a part of a plan."""
    if message.WhichOneof("message") == "summary":
        s = message.summary
        return PlanSummary(s.images, s.answers, s.accuracy_now, s.accuracy_after)
    return [PlannedImage(i.image_id, i.answers_needed, i.confidence, i.reason) for i in message.images.images]


def _share(value: float | None) -> float:
    return UNKNOWN if value is None else value


def _known(value: float) -> float | None:
    return None if value < 0 else value
