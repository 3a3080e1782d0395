# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of gandt.selection.v1, to and from the domain's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from gandt.api.selection.v1 import selection_pb2 as pb
from gandt.api.selection.v1.selection_pb2_grpc import (
    SelectionServiceServicer as Servicer,
)
from gandt.api.selection.v1.selection_pb2_grpc import (
    SelectionServiceStub as Stub,
)
from gandt.api.selection.v1.selection_pb2_grpc import (
    add_SelectionServiceServicer_to_server as add_servicer,
)
from gandt.domain.datasets import Arm, LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.records import (
    Decision,
    DecisionBlock,
    EvaluateRun,
    FilterSummary,
    InputChunk,
    Neighbor,
    Pick,
    SelectSummary,
    StrategyInfo,
)
from gandt.domain.vectors import VectorSet
from gandt.wire import types
from gandt.wire.selection_specs import (
    evaluate_spec,
    evaluate_spec_message,
    filter_spec,
    filter_spec_message,
    select_spec,
    select_spec_message,
)

__all__ = [
    "SERVICE",
    "Servicer",
    "Stub",
    "add_servicer",
    "evaluate_spec",
    "evaluate_spec_message",
    "filter_spec",
    "filter_spec_message",
    "pb",
    "select_spec",
    "select_spec_message",
]

SERVICE = "gandt.selection.v1.SelectionService"
PICKS_A_MESSAGE = 200
LABELED_A_MESSAGE = 1_000
_DECISIONS = {
    Decision.KEEP: pb.DECISION_KEEP,
    Decision.DISCARD: pb.DECISION_DISCARD,
    Decision.UNDECIDED: pb.DECISION_UNDECIDED,
}
_DECISION_OF = {int(value): decision for decision, value in _DECISIONS.items()}


def opened(requests: Iterator[Any]) -> Any:
    """The spec message that a request stream opens with.

    Raises:
        InvalidInput: the stream is empty, or begins with something else.
    """
    first = next(iter(requests), None)
    if first is None or first.WhichOneof("message") != "spec":
        raise InvalidInput("the stream must begin with a spec", field="spec", reason="NO_SPEC")
    return first.spec


def chunks(requests: Iterator[Any], dim: int) -> Iterator[InputChunk]:
    """What follows the spec.

    Args:
        dim: size of inline vectors; 0 when the request does not send any.
    Raises:
        InvalidInput: a second spec, an empty message, or vectors that were not announced or do not fit.
    """
    for request in requests:
        if request.WhichOneof("message") != "chunk":
            raise InvalidInput("after the spec only chunks may follow", field="chunk", reason="NOT_A_CHUNK")
        yield _chunk(request.chunk, dim)


def _chunk(message: pb.InputChunk, dim: int) -> InputChunk:
    vectors = None
    if message.HasField("vectors"):
        if not dim:
            raise InvalidInput(
                "vectors were sent, but the pool is not inline", field="vectors", reason="VECTORS_NOT_EXPECTED"
            )
        vectors = types.vector_set(message.vectors, dim=dim)
    return InputChunk(
        tuple(types.labeled_image(image) for image in message.labeled),
        tuple(message.excluded_ids),
        vectors,
        dict(message.groups),
    )


def chunk_messages(
    labeled: Iterable[LabeledImage], excluded: Sequence[str], groups: Mapping[str, str], vectors: Iterable[VectorSet]
) -> Iterator[pb.InputChunk]:
    """Everything that follows a spec, in pieces of about 1 MiB at most."""
    images = list(labeled)
    for start in range(0, len(images), LABELED_A_MESSAGE):
        part = images[start : start + LABELED_A_MESSAGE]
        yield pb.InputChunk(labeled=[types.labeled_image_message(image) for image in part])
    for start, stop in types.chunk_bounds(excluded, 0):
        yield pb.InputChunk(excluded_ids=excluded[start:stop])
    ids = list(groups)
    for start, stop in types.chunk_bounds(ids, 520):  # a group's name is an id at most
        yield pb.InputChunk(groups={image: groups[image] for image in ids[start:stop]})
    for block in vectors:
        for piece in types.chunked(block):
            yield pb.InputChunk(vectors=types.vector_block(piece))


def strategy_message(info: StrategyInfo) -> pb.Strategy:
    """A strategy as offered."""
    return pb.Strategy(
        name=info.name, purpose=info.purpose, needs_labels=info.needs_labels, needs_targets=info.needs_targets
    )


def strategy_info(message: pb.Strategy) -> StrategyInfo:
    """A strategy as offered."""
    return StrategyInfo(message.name, message.purpose, message.needs_labels, message.needs_targets)


def select_responses(report: Progress | Sequence[Pick] | SelectSummary) -> Iterator[pb.SelectResponse]:
    """Progress, picks or the summary, as messages."""
    if isinstance(report, Progress):
        yield pb.SelectResponse(progress=types.progress_message(report))
    elif isinstance(report, SelectSummary):
        summary = pb.SelectSummary(
            strategy=report.strategy,
            explanation=report.explanation,
            scanned=report.scanned,
            picked=report.picked,
            unusable_ids=report.unusable_ids,
            unknown_ids=report.unknown_ids,
            warnings=report.warnings,
        )
        yield pb.SelectResponse(summary=summary)
    else:
        for start in range(0, len(report), PICKS_A_MESSAGE):
            part = [_pick_message(pick) for pick in report[start : start + PICKS_A_MESSAGE]]
            yield pb.SelectResponse(picks=pb.SelectResponse.Picks(picks=part))


def select_report(message: pb.SelectResponse) -> Progress | list[Pick] | SelectSummary:
    """Progress, picks or the summary."""
    kind = message.WhichOneof("message")
    if kind == "picks":
        return [_pick(pick) for pick in message.picks.picks]
    if kind == "summary":
        summary = message.summary
        return SelectSummary(
            summary.strategy,
            summary.explanation,
            summary.scanned,
            summary.picked,
            tuple(summary.unusable_ids),
            tuple(summary.unknown_ids),
            tuple(summary.warnings),
        )
    return types.progress(message.progress)


def filter_responses(report: Progress | DecisionBlock | FilterSummary) -> Iterator[pb.FilterResponse]:
    """Progress, decisions or the summary, as messages."""
    if isinstance(report, Progress):
        yield pb.FilterResponse(progress=types.progress_message(report))
    elif isinstance(report, FilterSummary):
        summary = pb.FilterSummary(
            labels=report.labels,
            kept=report.kept,
            discarded=report.discarded,
            undecided=report.undecided,
            threshold=report.threshold,
            estimated_loss=report.estimated_loss,
            loss_bound=report.loss_bound,
            audit_ids=report.audit_ids,
            audit_bound=report.audit_bound,
            warnings=report.warnings,
        )
        yield pb.FilterResponse(summary=summary)
    else:
        for start, stop in types.chunk_bounds(report.image_ids, 8 * report.distances.shape[1] + 16):
            decisions = pb.DecisionChunk(
                image_ids=report.image_ids[start:stop],
                decisions=[_DECISIONS[decision] for decision in report.decisions[start:stop]],
                farther_than_other=report.farther[start:stop].tolist(),
                distances=report.distances[start:stop].ravel().tolist(),
            )
            yield pb.FilterResponse(decisions=decisions)


def filter_report(message: pb.FilterResponse) -> Progress | DecisionBlock | FilterSummary:
    """Progress, decisions or the summary."""
    kind = message.WhichOneof("message")
    if kind == "decisions":
        chunk = message.decisions
        rows = len(chunk.image_ids)
        return DecisionBlock(
            list(chunk.image_ids),
            [_DECISION_OF.get(value, Decision.UNDECIDED) for value in chunk.decisions],
            np.array(chunk.farther_than_other, np.int64),
            np.array(chunk.distances, np.float64).reshape(rows, len(chunk.distances) // max(rows, 1)),
        )
    if kind == "summary":
        summary = message.summary
        return FilterSummary(
            tuple(summary.labels),
            summary.kept,
            summary.discarded,
            summary.undecided,
            summary.threshold,
            summary.estimated_loss,
            summary.loss_bound,
            tuple(summary.audit_ids),
            summary.audit_bound,
            tuple(summary.warnings),
        )
    return types.progress(message.progress)


def evaluate_response(report: Progress | EvaluateRun) -> pb.EvaluateResponse:
    """Progress or a finished run, as a message."""
    if isinstance(report, Progress):
        return pb.EvaluateResponse(progress=types.progress_message(report))
    run = pb.EvaluateRun(
        strategy=report.strategy,
        repetition=report.repetition,
        labels_to_target=report.labels_to_target,
        found_by_round=report.found_by_round,
        labels_by_round=report.labels_by_round,
    )
    return pb.EvaluateResponse(run=run)


def evaluate_report(message: pb.EvaluateResponse) -> Progress | EvaluateRun:
    """Progress or a finished run."""
    if message.WhichOneof("message") != "run":
        return types.progress(message.progress)
    run = message.run
    return EvaluateRun(
        run.strategy, run.repetition, run.labels_to_target, tuple(run.found_by_round), tuple(run.labels_by_round)
    )


def _pick_message(pick: Pick) -> pb.Pick:
    return pb.Pick(
        image_id=pick.image_id,
        rank=pick.rank,
        score=pick.score,
        reason=pick.reason,
        arm=str(pick.arm),
        inclusion_probability=pick.inclusion_probability,
        pool_size=pick.pool_size,
        round=pick.round,
        neighbors=[
            pb.Neighbor(image_id=near.image_id, labels=near.labels, similarity=near.similarity)
            for near in pick.neighbors
        ],
        predicted_label=pick.predicted_label,
        predicted_probability=pick.predicted_probability,
        group_id=pick.group_id,
    )


def _pick(message: pb.Pick) -> Pick:
    return Pick(
        image_id=message.image_id,
        rank=message.rank,
        score=message.score,
        reason=message.reason,
        arm=Arm(message.arm),
        inclusion_probability=message.inclusion_probability,
        pool_size=message.pool_size,
        round=message.round,
        neighbors=tuple(Neighbor(near.image_id, tuple(near.labels), near.similarity) for near in message.neighbors),
        predicted_label=message.predicted_label,
        predicted_probability=message.predicted_probability,
        group_id=message.group_id,
    )
