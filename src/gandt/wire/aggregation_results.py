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
    StatePart,
    Verdict,
    WorkerReport,
)
from gandt.domain.aggregation.trust import Audit, Calibration
from gandt.domain.datasets import LabelStatus
from gandt.domain.progress import Progress
from gandt.wire import types

Event = Progress | list[ItemVerdict] | list[WorkerReport] | StatePart | AggregateSummary
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
    if isinstance(event, StatePart):
        return pb.AggregateResponse(state=event.data)
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
    if kind == "state":
        return StatePart(message.state)
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
        audit_place=value.audit_place,
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
        audit_place=message.audit_place,
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
        estimated_low=value.estimated_low,
        estimated_high=value.estimated_high,
        one_label_share=_share(value.one_label_share),
        spammer_score=_share(value.spammer_score),
        too_fast_share=_share(value.too_fast_share),
        image_model=value.image_model,
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
        one_label_share=_known(message.one_label_share),
        spammer_score=_known(message.spammer_score),
        estimated_low=message.estimated_low,
        estimated_high=message.estimated_high,
        too_fast_share=_known(message.too_fast_share),
        image_model=message.image_model,
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
        calibration=None if value.calibration is None else _calibration_message(value.calibration),
        audit=None if value.audit is None else _audit_message(value.audit),
        estimated_error=value.estimated_error,
    )


def _calibration_message(value: Calibration) -> pb.Calibration:
    return pb.Calibration(
        images=value.images,
        drawn_at_random=value.drawn_at_random,
        brier=value.brier,
        log_loss=value.log_loss,
        calibration_error=_share(value.error),
        temperature=_share(value.temperature),
    )


def _audit_message(value: Audit) -> pb.Audit:
    return pb.Audit(
        settled=value.settled,
        judged=value.judged,
        wrong=value.wrong,
        error_bound=value.error_bound,
        confidence=value.confidence,
        target=value.target,
        judgments_if_none_wrong=value.if_none_wrong,
        judgments_if_some_wrong=value.if_some_wrong,
        expected_share=value.expected_share,
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
        calibration=_calibration(message.calibration) if message.HasField("calibration") else None,
        audit=_audit(message.audit) if message.HasField("audit") else None,
        estimated_error=message.estimated_error,
    )


def _calibration(message: pb.Calibration) -> Calibration:
    return Calibration(
        images=message.images,
        brier=message.brier,
        log_loss=message.log_loss,
        error=_known(message.calibration_error),
        temperature=_known(message.temperature),
        drawn_at_random=message.drawn_at_random,
    )


def _audit(message: pb.Audit) -> Audit:
    return Audit(
        settled=message.settled,
        judged=message.judged,
        wrong=message.wrong,
        error_bound=message.error_bound,
        confidence=message.confidence,
        target=message.target,
        if_none_wrong=message.judgments_if_none_wrong,
        if_some_wrong=message.judgments_if_some_wrong,
        expected_share=message.expected_share,
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
