# SPDX-License-Identifier: GPL-3.0-or-later
"""The aggregation service for Python callers: answers in, label estimates and worker reports out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gandt.domain.aggregation.chunks import AnswerEncoder, encode_gold
from gandt.domain.aggregation.records import (
    AggregateSpec,
    AggregateSummary,
    Agreement,
    ItemVerdict,
    Message,
    MethodInfo,
    PlannedImage,
    PlanSpec,
    PlanSummary,
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
    ) -> AggregateResult:
        """Turns answers into labels.

        Args:
            answers: in the order in which a worker's repeated answers count.
            spec: how; the default chooses the method itself.
            gold: right labels by image; they measure workers and are fixed.
            previous: answers of earlier jobs; they measure workers, and label images only with `include_previous`.
            on_progress: told how far it is.
        Raises:
            InvalidInput, WrongState: see the service's `aggregate`.
        """
        stream = _Source(_stream(spec or AggregateSpec(), answers, gold, previous))
        return _gather(stream.guard(self._stub.Aggregate(wire.aggregate_requests(stream))), on_progress)

    def aggregate_stored(
        self,
        answers_uris: Sequence[str],
        spec: AggregateSpec | None = None,
        gold_uri: str = "",
        previous_uris: Sequence[str] = (),
        on_progress: OnProgress | None = None,
    ) -> AggregateResult:
        """The same for answers in the object store: tables by suffix, or Ground Truth output folders."""
        request = wire.stored_request(spec or AggregateSpec(), answers_uris, previous_uris, gold_uri)
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
    ) -> AnswerPlan:
        """Says which images need another answer."""
        images: list[PlannedImage] = []
        summary: PlanSummary | None = None
        stream = _Source(_stream(spec or PlanSpec(), answers, gold, previous))
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
    spec: AggregateSpec | PlanSpec, answers: Iterable[Answer], gold: Gold | None, previous: Iterable[Answer]
) -> Iterator[Message]:
    encoder = AnswerEncoder()
    yield spec
    yield from encode_gold((image, tuple(labels)) for image, labels in (gold or {}).items())
    yield from encoder.encode(previous, previous=True)
    yield from encoder.encode(answers)


def _gather(responses: Iterable[Any], on_progress: OnProgress | None) -> AggregateResult:
    items: list[ItemVerdict] = []
    workers: list[WorkerReport] = []
    summary: AggregateSummary | None = None
    for response in responses:
        event = results.event(response)
        if isinstance(event, AggregateSummary):
            summary = event
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
