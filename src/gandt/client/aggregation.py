# SPDX-License-Identifier: GPL-3.0-or-later
"""The aggregation service for Python callers: answers in, label estimates and worker reports out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gandt.domain.aggregation.chunks import MAX_CHUNK_BYTES, AnswerEncoder, encode_gold, encode_known, encode_model
from gandt.domain.aggregation.records import (
    AggregateSpec,
    AggregateSummary,
    Agreement,
    AuditChunk,
    ItemVerdict,
    Message,
    MethodInfo,
    ModelChunk,
    PlannedImage,
    PlanSpec,
    PlanSummary,
    StatePart,
    WorkerReport,
)
from gandt.domain.datasets import Answer
from gandt.domain.errors import GandtError
from gandt.domain.progress import Progress
from gandt.wire import aggregation as wire
from gandt.wire import aggregation_results as results

Gold = Mapping[str, Sequence[str]]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class AggregateResult:
    """What an aggregation says.

    Attributes:
        items: a verdict on every image that came in, by first appearance.
        workers: a report on every worker, by id.
    """

    items: list[ItemVerdict]
    workers: list[WorkerReport]
    summary: AggregateSummary


@dataclass(frozen=True, slots=True)
class Beside:
    """What a caller knows beside answers and gold.

    Attributes:
        drawn_gold: gold images that were drawn at random from those to be labeled; only these calibrate.
        judged: an expert's labels of the audit's images.
        model: an image model's probabilities, in one chunk or several over the same classes.
    """

    drawn_gold: Collection[str] = ()
    judged: Gold = field(default_factory=dict)
    model: Iterable[ModelChunk] = ()


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """Images that need another answer, in order of worth; the accuracies are a model estimate, not a bound."""

    images: list[PlannedImage]
    summary: PlanSummary


class AggregationClient:
    """Calls the aggregation service; raises the domain errors that it answers with.

    Args:
        channel: from `gandt.client.connection`, or any gRPC channel.
    """

    def __init__(self, channel: Any) -> None:
        self._stub = wire.Stub(channel)

    def list_methods(self) -> list[MethodInfo]:
        """All methods by name."""
        found: list[MethodInfo] = []
        token = ""
        while True:
            page, token = wire.methods(self._stub.ListMethods(wire.methods_request(token)))
            found += page
            if not token:
                return found

    def aggregate(
        self,
        answers: Iterable[Answer],
        spec: AggregateSpec | None = None,
        gold: Gold | None = None,
        previous: Iterable[Answer] = (),
        on_progress: OnProgress | None = None,
        beside: Beside | None = None,
    ) -> AggregateResult:
        """Turns answers into labels.

        Args:
            answers: in the order in which a worker's repeated answers count.
            spec: how; the default chooses the method itself.
            gold: right labels by image; they measure workers and are fixed.
            previous: answers of earlier jobs; they measure workers, and label images only with `include_previous`.
            on_progress: told how far it is.
            beside: what else is known: which gold was drawn at random, an image model, an audit's judgments.
        Raises:
            InvalidInput, WrongState: see the service's `aggregate`.
        """
        stream = _Source(_stream(spec or AggregateSpec(), answers, gold, previous, beside))
        return _gather(stream.guard(self._stub.Aggregate(wire.aggregate_requests(stream))), on_progress)

    def aggregate_stored(
        self,
        answers_uris: Sequence[str],
        spec: AggregateSpec | None = None,
        gold_uri: str = "",
        previous_uris: Sequence[str] = (),
        on_progress: OnProgress | None = None,
        audit_uri: str = "",
        model_uri: str = "",
    ) -> AggregateResult:
        """The same for answers in the object store: tables by suffix, or Ground Truth output folders."""
        request = wire.stored_request(
            spec or AggregateSpec(), answers_uris, previous_uris, gold_uri, audit_uri, model_uri
        )
        return _gather((r.response for r in self._stub.AggregateStored(request)), on_progress)

    def measure_agreement(self, answers: Iterable[Answer], spec: AggregateSpec | None = None) -> Agreement:
        """How far workers agree."""
        stream = _Source(_stream(spec or AggregateSpec(), answers, None, ()))
        response = self._stub.MeasureAgreement(wire.agreement_requests(stream))
        stream.check()
        return results.agreement(response)

    def plan_answers(
        self,
        answers: Iterable[Answer],
        spec: PlanSpec | None = None,
        gold: Gold | None = None,
        previous: Iterable[Answer] = (),
        beside: Beside | None = None,
    ) -> AnswerPlan:
        """Says which images need another answer."""
        images: list[PlannedImage] = []
        summary: PlanSummary | None = None
        stream = _Source(_stream(spec or PlanSpec(), answers, gold, previous, beside))
        for response in stream.guard(self._stub.PlanAnswers(wire.plan_requests(stream))):
            part = results.plan_part(response)
            if isinstance(part, PlanSummary):
                summary = part  # and on to the end: leaving early would count as a cancelled call
            else:
                images += part
        if summary is None:
            raise _cut_short()
        return AnswerPlan(images, summary)


class _Source(Iterator[Message]):
    """What is sent, read by gRPC's own thread: an error of the caller's iterator ends the stream and comes up here."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self._error: Exception | None = None

    def __next__(self) -> Message:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as error:  # noqa: BLE001  raised again in the caller's thread
            self._error = error
            raise StopIteration from None

    def check(self) -> None:
        """Raises what the caller's iterator raised."""
        if self._error is not None:
            raise self._error

    def guard(self, responses: Any) -> Iterator[Any]:
        """The responses, unless the caller's iterator failed."""
        try:
            for response in responses:
                self.check()
                yield response
        except GandtError:
            self.check()
            raise
        finally:
            if hasattr(responses, "close"):
                responses.close()


def _stream(
    spec: AggregateSpec | PlanSpec,
    answers: Iterable[Answer],
    gold: Gold | None,
    previous: Iterable[Answer],
    beside: Beside | None = None,
) -> Iterator[Message]:
    encoder, beside = AnswerEncoder(), beside or Beside()
    head, state = _without_state(spec)
    yield head
    for start in range(0, len(state), MAX_CHUNK_BYTES):
        yield StatePart(state[start : start + MAX_CHUNK_BYTES])
    yield from encode_gold(gold or {}, beside.drawn_gold)
    for part in encode_known((image, tuple(labels)) for image, labels in beside.judged.items()):
        yield AuditChunk(part)
    for chunk in beside.model:
        yield from encode_model(chunk)
    yield from encoder.encode(previous, previous=True)
    yield from encoder.encode(answers)


def _without_state(spec: AggregateSpec | PlanSpec) -> tuple[AggregateSpec | PlanSpec, bytes]:
    """The spec and its state, which goes in messages of its own: it may be larger than one may be."""
    if isinstance(spec, PlanSpec):
        return replace(spec, aggregate=replace(spec.aggregate, state=b"")), spec.aggregate.state
    return replace(spec, state=b""), spec.state


def _gather(responses: Iterable[Any], on_progress: OnProgress | None) -> AggregateResult:
    items: list[ItemVerdict] = []
    workers: list[WorkerReport] = []
    summary: AggregateSummary | None = None
    state: list[bytes] = []
    for response in responses:
        event = results.event(response)
        if isinstance(event, AggregateSummary):
            summary = replace(event, state=b"".join([*state, event.state]))
            continue
        if isinstance(event, StatePart):
            state.append(event.data)
            continue
        if isinstance(event, Progress):
            if on_progress is not None:
                on_progress(event)
            continue
        for record in event:
            if isinstance(record, ItemVerdict):
                items.append(record)
            else:
                workers.append(record)
    if summary is None:
        raise _cut_short()
    return AggregateResult(items, workers, summary)


def _cut_short() -> GandtError:
    return GandtError("the aggregation service ended its stream without a summary", reason="STREAM_CUT_SHORT")
