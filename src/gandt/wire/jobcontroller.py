# SPDX-License-Identifier: GPL-3.0-or-later
"""gandt.jobcontroller.v1 messages of the catalog to and from domain records: images, labels, answers, workers.

Campaigns, rounds and labeling jobs are in `jobcontroller_campaigns`.
"""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from gandt.api.jobcontroller.v1 import jobcontroller_pb2 as pb
from gandt.api.jobcontroller.v1 import jobcontroller_pb2_grpc as grpc_api
from gandt.api.type.v1 import type_pb2
from gandt.domain.catalog import (
    CatalogImage,
    EmbeddingJob,
    EmbeddingState,
    LabelKind,
    QuarantinedAnswer,
    RejectedFile,
    StoredLabel,
    WorkerRecord,
)
from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.errors import GandtError, InvalidInput
from gandt.domain.labeling.outcomes import (
    GivenLabel,
    ImportReport,
    ImportSummary,
    RefusedFile,
    RefusedLabel,
    ReplacedLabel,
)
from gandt.wire.types import item_error, item_error_message, progress, progress_message

__all__ = ["SERVICE_NAME", "Servicer", "Stub", "add_servicer", "pb"]

Servicer = grpc_api.JobControllerServiceServicer
Stub = grpc_api.JobControllerServiceStub
add_servicer = grpc_api.add_JobControllerServiceServicer_to_server
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["JobControllerService"].full_name

_KINDS = {
    pb.LABEL_KIND_UNSPECIFIED: LabelKind.SEED,
    pb.LABEL_KIND_SEED: LabelKind.SEED,
    pb.LABEL_KIND_GOLD: LabelKind.GOLD,
    pb.LABEL_KIND_TRUTH: LabelKind.TRUTH,
}
_EMBEDDING_STATES = {
    pb.EmbeddingJob.STATE_RUNNING: EmbeddingState.RUNNING,
    pb.EmbeddingJob.STATE_COMPLETED: EmbeddingState.COMPLETED,
    pb.EmbeddingJob.STATE_FAILED: EmbeddingState.FAILED,
}
_EMBEDDING_NUMBERS = {state: number for number, state in _EMBEDDING_STATES.items()}


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A time for a message; None stays absent."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment.astimezone(UTC))
    return message


def moment(message: Timestamp) -> datetime:
    """The aware UTC time of a message."""
    return message.ToDatetime(UTC)


def label_kind(number: pb.LabelKind.ValueType) -> LabelKind:
    """What imported labels are for.

    Raises:
        InvalidInput: a number that the contract does not have.
    """
    if number not in _KINDS:
        raise InvalidInput(f"label kind {number} is unknown", field="kind", reason="UNKNOWN_KIND")
    return _KINDS[number]


def label_kind_number(kind: LabelKind) -> pb.LabelKind.ValueType:
    """The contract's number of a label kind."""
    return next(number for number, found in _KINDS.items() if found is kind and number)


def import_report_message(report: ImportReport) -> pb.ImportImagesResponse:
    """One message of an import of images."""
    message = pb.ImportImagesResponse(
        progress=progress_message(report.progress),
        rejected=[pb.RejectedImage(uri=r.uri, error=item_error_message(r.error)) for r in report.rejected],
    )
    if report.done:
        message.summary.CopyFrom(
            pb.ImportSummary(
                files=report.summary.files,
                added=report.summary.added,
                unchanged=report.summary.unchanged,
                duplicates=report.summary.duplicates,
                rejected=report.summary.rejected,
            )
        )
    return message


def import_report(message: pb.ImportImagesResponse) -> ImportReport:
    """The inverse of `import_report_message`; counts are zero before the last message."""
    counts = message.summary
    return ImportReport(
        progress(message.progress),
        ImportSummary(counts.files, counts.added, counts.unchanged, counts.duplicates, counts.rejected),
        tuple(RefusedFile(r.uri, item_error(r.error)) for r in message.rejected),
        done=message.HasField("summary"),
    )


def image_message(image: CatalogImage) -> pb.Image:
    """An image of the catalog."""
    return pb.Image(
        image_id=image.image_id,
        uris=image.uris,
        width_px=image.width,
        height_px=image.height,
        format=image.format,
        size_bytes=image.size,
        thumbnail_uri=image.thumbnail_uri,
        embedded=image.embedded,
    )


def image(message: pb.Image) -> CatalogImage:
    """The inverse of `image_message`."""
    return CatalogImage(
        image_id=message.image_id,
        width=message.width_px,
        height=message.height_px,
        format=message.format,
        size=message.size_bytes,
        thumbnail_uri=message.thumbnail_uri,
        uris=tuple(message.uris),
        embedded=message.embedded,
    )


def given_label(message: pb.ImportedLabel | pb.Review) -> GivenLabel:
    """Labels for an image by name."""
    return GivenLabel(message.image, tuple(message.labels))


def rejected_label_message(refused: RefusedLabel) -> pb.RejectedLabel:
    """A label or answer that was not taken."""
    return pb.RejectedLabel(index=refused.index, image=refused.image, error=item_error_message(refused.error))


def rejected_label(message: pb.RejectedLabel) -> RefusedLabel:
    """The inverse of `rejected_label_message`."""
    return RefusedLabel(message.index, message.image, item_error(message.error))


def replaced_label_message(replaced: ReplacedLabel) -> pb.ReplacedLabel:
    """A label that took the place of another one."""
    return pb.ReplacedLabel(image=replaced.image, old_labels=replaced.old, new_labels=replaced.new)


def replaced_label(message: pb.ReplacedLabel) -> ReplacedLabel:
    """The inverse of `replaced_label_message`."""
    return ReplacedLabel(message.image, tuple(message.old_labels), tuple(message.new_labels))


def label_message(label: StoredLabel) -> pb.Label:
    """A label with its history."""
    return pb.Label(
        image_id=label.image_id,
        uris=label.uris,
        labels=label.labels,
        confidence=label.confidence,
        status=label.status,
        answers=label.answers,
        agreeing=label.agreeing,
        source=label.source,
        arm=label.arm,
        round=label.round,
        inclusion_probability=label.inclusion_probability,
        reason=label.reason,
    )


def label(message: pb.Label) -> StoredLabel:
    """The inverse of `label_message`."""
    return StoredLabel(
        image_id=message.image_id,
        labels=tuple(message.labels),
        confidence=message.confidence,
        status=message.status,
        answers=message.answers,
        agreeing=message.agreeing,
        source=message.source,
        arm=message.arm,
        round=message.round,
        inclusion_probability=message.inclusion_probability,
        reason=message.reason,
        uris=tuple(message.uris),
    )


def answer_message(answer: Answer) -> pb.Answer:
    """An answer as given."""
    return pb.Answer(
        image_id=answer.image_id,
        worker_id=answer.worker_id,
        labels=answer.labels,
        state=answer.state.value,
        job_name=answer.job,
        page=answer.page,
        answer_time=timestamp(answer.answered_at),
        active_seconds=answer.seconds or 0.0,
    )


def answer(message: pb.Answer) -> Answer:
    """The inverse of `answer_message`; an empty state means answered.

    Raises:
        InvalidInput: an unknown state, or a negative time.
    """
    state = message.state or AnswerState.ANSWERED.value
    if state not in set(AnswerState):
        raise InvalidInput(
            f"answer state {state!r} is none of {', '.join(AnswerState)}", field="state", reason="UNKNOWN_STATE"
        )
    return Answer(
        image_id=message.image_id,
        worker_id=message.worker_id,
        labels=tuple(message.labels),
        state=AnswerState(state),
        job=message.job_name,
        page=message.page,
        answered_at=moment(message.answer_time) if message.HasField("answer_time") else None,
        seconds=message.active_seconds if message.active_seconds > 0 else None,
    )


def quarantined_message(entry: QuarantinedAnswer) -> pb.QuarantinedAnswer:
    """An answer that was set aside."""
    return pb.QuarantinedAnswer(job_name=entry.job_name, uri=entry.uri, rule=entry.rule, excerpt=entry.excerpt)


def quarantined(message: pb.QuarantinedAnswer) -> QuarantinedAnswer:
    """The inverse of `quarantined_message`."""
    return QuarantinedAnswer(message.job_name, message.uri, message.rule, message.excerpt)


def worker_message(worker: WorkerRecord) -> pb.Worker:
    """What is known of a worker."""
    return pb.Worker(
        worker_id=worker.worker_id,
        answers=worker.answers,
        reliability=worker.reliability,
        low=worker.low,
        high=worker.high,
        gold_accuracy=worker.gold_accuracy,
        verdict=worker.verdict,
        estimated_accuracy=worker.estimated_accuracy,
        estimated_low=worker.estimated_low,
        estimated_high=worker.estimated_high,
        one_label_share=worker.one_label_share,
        spammer_score=worker.spammer_score,
        too_fast_share=worker.too_fast_share,
    )


def worker(message: pb.Worker) -> WorkerRecord:
    """The inverse of `worker_message`."""
    return WorkerRecord(
        message.worker_id,
        message.answers,
        message.reliability,
        message.low,
        message.high,
        message.gold_accuracy,
        message.verdict,
        message.estimated_accuracy,
        message.estimated_low,
        message.estimated_high,
        message.one_label_share,
        message.spammer_score,
        message.too_fast_share,
    )


def embedding_job_message(job: EmbeddingJob) -> pb.EmbeddingJob:
    """An embedding job as it is."""
    return pb.EmbeddingJob(
        embedding_job_id=job.embedding_job_id,
        state=_EMBEDDING_NUMBERS[job.state],
        message=job.message,
        model_id=job.model_id,
        collection=job.collection,
        total=job.total,
        embedded=job.embedded,
        failed=job.failed,
        rejected=[pb.RejectedImage(uri=r.uri, error=_reject_message(r)) for r in job.rejected],
    )


def embedding_job(message: pb.EmbeddingJob) -> EmbeddingJob:
    """The inverse of `embedding_job_message`."""
    return EmbeddingJob(
        embedding_job_id=message.embedding_job_id,
        state=_EMBEDDING_STATES[message.state],
        model_id=message.model_id,
        collection=message.collection,
        total=message.total,
        embedded=message.embedded,
        failed=message.failed,
        message=message.message,
        rejected=tuple(RejectedFile(r.uri, r.error.reason, r.error.message) for r in message.rejected),
    )


def _reject_message(rejected: RejectedFile) -> type_pb2.ItemError:
    error: GandtError = InvalidInput(rejected.message, field="image", reason=rejected.reason)
    return item_error_message(error)
