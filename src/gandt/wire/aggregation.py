# SPDX-License-Identifier: GPL-3.0-or-later
"""gandt.aggregation.v1 messages to and from the records of `gandt.domain.aggregation`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.api.aggregation.v1 import aggregation_pb2 as pb
from gandt.api.aggregation.v1 import aggregation_pb2_grpc as grpc_api
from gandt.api.type.v1 import type_pb2
from gandt.domain.aggregation.chunks import Known
from gandt.domain.aggregation.records import (
    AggregateSpec,
    AnswerChunk,
    AuditChunk,
    DuplicatePolicy,
    GoldChunk,
    Message,
    MethodInfo,
    ModelChunk,
    PlanSpec,
    StatePart,
)
from gandt.domain.errors import InvalidInput

Servicer = grpc_api.AggregationServiceServicer
Stub = grpc_api.AggregationServiceStub
add_servicer = grpc_api.add_AggregationServiceServicer_to_server
SERVICE_NAME = pb.DESCRIPTOR.services_by_name["AggregationService"].full_name

Request = pb.AggregateRequest | pb.MeasureAgreementRequest | pb.PlanAnswersRequest
_POLICIES = {
    pb.DUPLICATE_POLICY_UNSPECIFIED: DuplicatePolicy.FIRST,
    pb.DUPLICATE_POLICY_FIRST: DuplicatePolicy.FIRST,
    pb.DUPLICATE_POLICY_LAST: DuplicatePolicy.LAST,
    pb.DUPLICATE_POLICY_ERROR: DuplicatePolicy.ERROR,
}
_POLICY_NUMBERS = {policy: number for number, policy in _POLICIES.items()}
_STATES = 4  # ANSWERED, BLANK, UNSURE, BROKEN, which are 1 to 4 in the contract


def spec(message: pb.AggregateSpec) -> AggregateSpec:
    """How to aggregate, with the contract's defaults put in.

    Raises:
        InvalidInput: a threshold out of range, an unknown policy or a class named twice.
    """
    if message.duplicates not in _POLICIES:
        raise InvalidInput(f"duplicate policy {message.duplicates} is unknown", field="duplicates")
    default = AggregateSpec()
    return AggregateSpec(
        method=message.method or default.method,
        classes=tuple(message.classes),
        multi_label=message.multi_label,
        min_answers=message.min_answers or default.min_answers,
        min_proportion=message.min_proportion if message.HasField("min_proportion") else default.min_proportion,
        reliability_threshold=(
            message.reliability_threshold
            if message.HasField("reliability_threshold")
            else default.reliability_threshold
        ),
        compat=message.compat,
        duplicates=_POLICIES[message.duplicates],
        with_posteriors=message.with_posteriors,
        include_previous=message.include_previous,
        min_worker_answers=message.min_worker_answers or default.min_worker_answers,
        state=message.state,
        with_state=message.with_state,
        audit_size=message.audit_size,
        audit_seed=message.audit_seed,
        audit_target=message.audit_target or default.audit_target,
    )


def spec_message(value: AggregateSpec) -> pb.AggregateSpec:
    """The spec as a message."""
    return pb.AggregateSpec(
        method=value.method,
        classes=value.classes,
        multi_label=value.multi_label,
        min_answers=value.min_answers,
        min_proportion=value.min_proportion,
        reliability_threshold=value.reliability_threshold,
        compat=value.compat,
        duplicates=_POLICY_NUMBERS[value.duplicates],
        with_posteriors=value.with_posteriors,
        include_previous=value.include_previous,
        min_worker_answers=value.min_worker_answers,
        state=value.state,
        with_state=value.with_state,
        audit_size=value.audit_size,
        audit_seed=value.audit_seed,
        audit_target=value.audit_target,
    )


def plan_spec(message: pb.PlanSpec) -> PlanSpec:
    """What to plan, with the contract's defaults put in."""
    default = PlanSpec()
    return PlanSpec(
        aggregate=spec(message.aggregate),
        target_confidence=message.target_confidence or default.target_confidence,
        min_answers=message.min_answers or default.min_answers,
        max_answers=message.max_answers or default.max_answers,
        answer_budget=message.answer_budget if message.HasField("answer_budget") else None,
        explore_share=message.explore_share,
    )


def plan_spec_message(value: PlanSpec) -> pb.PlanSpec:
    """The plan's spec as a message."""
    return pb.PlanSpec(
        aggregate=spec_message(value.aggregate),
        target_confidence=value.target_confidence,
        min_answers=value.min_answers,
        max_answers=value.max_answers,
        answer_budget=value.answer_budget,
        explore_share=value.explore_share,
    )


def messages(requests: Iterable[Request]) -> Iterator[Message]:
    """The client's stream as records.

    Raises:
        InvalidInput: a message that holds nothing, an unknown answer state, or probabilities of another length.
    """
    for request in requests:
        kind = request.WhichOneof("message")
        if kind == "spec":
            yield plan_spec(request.spec) if isinstance(request, pb.PlanAnswersRequest) else spec(request.spec)
        elif kind == "answers":
            yield answer_chunk(request.answers)
        elif isinstance(request, pb.AggregateRequest) and kind == "audit":
            yield AuditChunk(_known(request.audit))
        elif isinstance(request, pb.AggregateRequest | pb.PlanAnswersRequest) and kind is not None:
            if kind == "gold":
                yield GoldChunk(_known(request.gold), request.gold.drawn_at_random)
            elif kind == "model":
                yield model_chunk(request.model)
            else:
                yield StatePart(request.state)
        else:
            raise InvalidInput("a message of the stream holds nothing", field="message", reason="EMPTY_MESSAGE")


def answer_chunk(message: pb.AnswerChunk) -> AnswerChunk:
    """Some answers as integer columns."""
    states = None
    if message.states:
        numbers = np.fromiter(message.states, np.int64, len(message.states))
        if int(numbers.min()) < 0 or int(numbers.max()) > _STATES:
            offset = int(np.flatnonzero((numbers < 0) | (numbers > _STATES))[0])
            raise InvalidInput(
                f"an answer chunk has the unknown state {numbers[offset]} at offset {offset}",
                field="states",
                reason="BAD_STATE",
                metadata={"offset": str(offset)},
            )
        states = np.maximum(numbers - 1, 0).astype(np.uint8)
    return AnswerChunk(
        new_images=list(message.new_image_ids),
        new_workers=list(message.new_worker_ids),
        new_labels=list(message.new_labels),
        new_jobs=list(message.new_jobs),
        images=np.fromiter(message.images, np.int64, len(message.images)),
        workers=np.fromiter(message.workers, np.int64, len(message.workers)),
        label_counts=np.fromiter(message.label_counts, np.int64, len(message.label_counts)),
        labels=np.fromiter(message.labels, np.int64, len(message.labels)),
        states=states,
        jobs=np.fromiter(message.jobs, np.int64, len(message.jobs)) if message.jobs else None,
        previous=message.previous,
        seconds=np.fromiter(message.seconds, np.float32, len(message.seconds)) if message.seconds else None,
    )


def answer_chunk_message(chunk: AnswerChunk) -> pb.AnswerChunk:
    """Some answers as a message."""
    states: NDArray[np.integer] | None = None if chunk.states is None else chunk.states.astype(np.int64) + 1
    return pb.AnswerChunk(
        new_image_ids=chunk.new_images,
        new_worker_ids=chunk.new_workers,
        new_labels=chunk.new_labels,
        new_jobs=chunk.new_jobs,
        images=chunk.images.tolist(),
        workers=chunk.workers.tolist(),
        label_counts=chunk.label_counts.tolist(),
        labels=chunk.labels.tolist(),
        states=[] if states is None else states.tolist(),
        jobs=[] if chunk.jobs is None else chunk.jobs.tolist(),
        previous=chunk.previous,
        seconds=[] if chunk.seconds is None else chunk.seconds.tolist(),
    )


def gold_chunk_message(known: Sequence[Known], drawn_at_random: bool = False) -> pb.GoldChunk:
    """Some known labels as a message."""
    labels = [type_pb2.GoldLabel(image_id=image, labels=names) for image, names in known]
    return pb.GoldChunk(gold=labels, drawn_at_random=drawn_at_random)


def _known(message: pb.GoldChunk) -> list[Known]:
    return [(known.image_id, tuple(known.labels)) for known in message.gold]


def model_chunk(message: pb.ModelChunk) -> ModelChunk:
    """Some of an image model's probabilities."""
    rows, classes = len(message.image_ids), len(message.classes)
    if len(message.probabilities) != 4 * rows * classes:
        raise InvalidInput(
            f"probabilities hold {len(message.probabilities)} bytes, {rows} rows of {classes} numbers need "
            f"{4 * rows * classes}",
            field="model.probabilities",
            reason="WRONG_LENGTH",
        )
    numbers = np.frombuffer(message.probabilities, "<f4").astype(np.float32).reshape(rows, classes)
    return ModelChunk(list(message.image_ids), tuple(message.classes), numbers)


def model_chunk_message(chunk: ModelChunk) -> pb.ModelChunk:
    """Some of an image model's probabilities as a message."""
    return pb.ModelChunk(
        image_ids=chunk.images, classes=chunk.classes, probabilities=chunk.probability.astype("<f4").tobytes()
    )


def aggregate_requests(stream: Iterable[Message]) -> Iterator[pb.AggregateRequest]:
    """Records as requests of Aggregate."""
    for message in stream:
        if isinstance(message, AggregateSpec):
            yield pb.AggregateRequest(spec=spec_message(message))
        elif isinstance(message, GoldChunk):
            yield pb.AggregateRequest(gold=gold_chunk_message(message.gold, message.drawn_at_random))
        elif isinstance(message, AuditChunk):
            yield pb.AggregateRequest(audit=gold_chunk_message(message.judged))
        elif isinstance(message, ModelChunk):
            yield pb.AggregateRequest(model=model_chunk_message(message))
        elif isinstance(message, StatePart):
            yield pb.AggregateRequest(state=message.data)
        elif isinstance(message, AnswerChunk):
            yield pb.AggregateRequest(answers=answer_chunk_message(message))


def agreement_requests(stream: Iterable[Message]) -> Iterator[pb.MeasureAgreementRequest]:
    """Records as requests of MeasureAgreement."""
    for message in stream:
        if isinstance(message, AggregateSpec):
            yield pb.MeasureAgreementRequest(spec=spec_message(message))
        elif isinstance(message, AnswerChunk):
            yield pb.MeasureAgreementRequest(answers=answer_chunk_message(message))


def plan_requests(stream: Iterable[Message]) -> Iterator[pb.PlanAnswersRequest]:
    """Records as requests of PlanAnswers."""
    for message in stream:
        if isinstance(message, PlanSpec):
            yield pb.PlanAnswersRequest(spec=plan_spec_message(message))
        elif isinstance(message, GoldChunk):
            yield pb.PlanAnswersRequest(gold=gold_chunk_message(message.gold, message.drawn_at_random))
        elif isinstance(message, ModelChunk):
            yield pb.PlanAnswersRequest(model=model_chunk_message(message))
        elif isinstance(message, StatePart):
            yield pb.PlanAnswersRequest(state=message.data)
        elif isinstance(message, AnswerChunk):
            yield pb.PlanAnswersRequest(answers=answer_chunk_message(message))


def stored_request(
    value: AggregateSpec,
    answers_uris: Iterable[str],
    previous_uris: Iterable[str],
    gold_uri: str,
    audit_uri: str = "",
    model_uri: str = "",
) -> pb.AggregateStoredRequest:
    """A request of AggregateStored."""
    return pb.AggregateStoredRequest(
        spec=spec_message(value),
        answers_uris=answers_uris,
        previous_uris=previous_uris,
        gold_uri=gold_uri,
        audit_uri=audit_uri,
        model_uri=model_uri,
    )


def methods_message(methods: Iterable[MethodInfo], next_page_token: str) -> pb.ListMethodsResponse:
    """A page of methods as a message."""
    return pb.ListMethodsResponse(
        methods=[
            pb.Method(
                name=m.name,
                purpose=m.purpose,
                multi_label=m.multi_label,
                source=m.source,
                needs_multi_label=m.needs_multi_label,
            )
            for m in methods
        ],
        next_page_token=next_page_token,
    )


def methods_request(page_token: str) -> pb.ListMethodsRequest:
    """Asks for one page of methods."""
    return pb.ListMethodsRequest(page_token=page_token)


def methods(message: pb.ListMethodsResponse) -> tuple[list[MethodInfo], str]:
    """A page of methods and the token of the next."""
    found = [MethodInfo(m.name, m.purpose, m.multi_label, m.source, m.needs_multi_label) for m in message.methods]
    return found, message.next_page_token
