# SPDX-License-Identifier: GPL-3.0-or-later
"""The aggregation service's use cases: read a stream of chunks, aggregate, stream the verdicts back. Keeps nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from gandt.domain import paging
from gandt.domain.aggregation.aggregate import Aggregation, Beside, aggregate
from gandt.domain.aggregation.answer_table import AnswerTable, AnswerTableBuilder, Limits, concatenate
from gandt.domain.aggregation.chunks import AnswerEncoder
from gandt.domain.aggregation.compat_run import aggregate_compat
from gandt.domain.aggregation.consistency import measure_agreement
from gandt.domain.aggregation.methods import list_methods
from gandt.domain.aggregation.plan import plan_answers
from gandt.domain.aggregation.records import (
    AggregateSpec,
    AggregateSummary,
    Agreement,
    AnswerChunk,
    ItemVerdict,
    Message,
    MethodInfo,
    PlannedImage,
    PlanSpec,
    PlanSummary,
    StatePart,
    WorkerReport,
)
from gandt.domain.aggregation.state import State, check_state, pack_state, unpack_state
from gandt.domain.aggregation.votes import count_votes
from gandt.domain.datasets import Answer
from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.ports.answers_source import AnswersSource
from gandt.ports.clock import Deadline
from gandt.ports.meter import Meter, Metric
from gandt_aggregation.beside import BesideReader, Gold

METRICS = (
    Metric("gandt_aggregation_answers_total", "counter", "Answers aggregated.", ("method",)),
    Metric(
        "gandt_aggregation_iterations",
        "histogram",
        "Iterations of the model in one call.",
        ("method",),
        (1, 2, 5, 10, 20, 50, 100),
    ),
    Metric("gandt_aggregation_agreement", "gauge", "Share of answer pairs that agree, in [0, 1], of the last call."),
)
BATCH_BYTES = 500_000  # half of what a stream message may hold: sizes here are estimates
MAX_PAGE = 100
DEFAULT_PAGE = 50

Event = Progress | list[ItemVerdict] | list[WorkerReport] | StatePart | AggregateSummary
S = TypeVar("S", AggregateSpec, PlanSpec)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Input:
    """All that a call brought; the state, if any, is put together with the rest."""

    table: AnswerTable
    gold: Gold
    beside: Beside


class AggregationService:
    """Use cases; thread-safe, since a call keeps its data to itself.

    Args:
        source: reads stored answers.
        meter: gets the service's metrics.
        limits: most that one call may bring.
    """

    def __init__(self, source: AnswersSource, meter: Meter, limits: Limits | None = None) -> None:
        self._source = source
        self._meter = meter
        self._limits = limits or Limits()

    def list_methods(self, page_size: int, page_token: str) -> tuple[list[MethodInfo], str]:
        """A page of methods by name, and the token of the next.

        Raises:
            InvalidInput: a page size above 100.
        """
        size = paging.page_size(page_size, DEFAULT_PAGE, MAX_PAGE)
        return paging.page_by_name(list_methods(), lambda method: method.name, size, page_token)

    def aggregate(self, messages: Iterator[Message], deadline: Deadline) -> Iterator[Event]:
        """Aggregates streamed answers: progress, verdicts on every image, workers, then the summary.

        Raises:
            InvalidInput: no spec first, a broken chunk (names it), or what `domain.aggregation` refuses.
            WrongState: compat where the original crashes or loses everything.
            DeadlineExceeded: the caller stopped waiting; checked at each chunk and iteration.
        """
        spec = _first(messages, AggregateSpec)
        data = self._read(messages, spec, deadline)
        yield Progress("reading", len(data.table), len(data.table))
        yield from self._results(spec, data, deadline)

    def aggregate_stored(
        self,
        spec: AggregateSpec,
        answers_uris: Sequence[str],
        previous_uris: Sequence[str],
        gold_uri: str,
        deadline: Deadline,
        audit_uri: str = "",
        model_uri: str = "",
    ) -> Iterator[Event]:
        """The same for answers in the object store.

        Raises:
            NotFound, InvalidInput: an object is not there or cannot be read; names it.
        """
        if not answers_uris:
            raise InvalidInput("no answers were named", field="answers_uris", reason="NO_ANSWERS")
        beside = BesideReader(self._limits)
        if gold_uri:
            gold, drawn = self._source.gold(gold_uri)
            beside.gold, beside.drawn = dict(gold), set(drawn)
        if audit_uri:
            beside.judged = dict(self._source.gold(audit_uri)[0])
        for said in self._source.model(model_uri) if model_uri else ():
            deadline.check()
            beside.take(said)
        encoder = AnswerEncoder()
        builder = AnswerTableBuilder(self._limits)
        for previous, uris in ((True, previous_uris), (False, answers_uris)):
            for uri in uris:
                for chunk in encoder.encode(self._stored(uri, spec, previous, deadline), previous):
                    deadline.check()
                    builder.add(chunk)
                    yield Progress("reading", builder.rows)
        yield from self._results(spec, self._with_state(spec, builder.build(), beside), deadline)

    def measure_agreement(self, messages: Iterator[Message], deadline: Deadline) -> Agreement:
        """How far workers agree, over the votes that count."""
        spec = _first(messages, AggregateSpec)
        data = self._read(messages, spec, deadline)
        return measure_agreement(count_votes(data.table, replace(spec, include_previous=True), data.gold).votes)

    def plan_answers(
        self, messages: Iterator[Message], deadline: Deadline
    ) -> Iterator[list[PlannedImage] | PlanSummary]:
        """Images that need another answer in order of worth, then what the plan costs and brings."""
        spec = _first(messages, PlanSpec)
        if spec.aggregate.compat:
            raise InvalidInput("compat has no model to plan with", field="compat", reason="COMPAT_CANNOT_PLAN")
        data = self._read(messages, spec.aggregate, deadline)
        plan = plan_answers(self._fit(spec.aggregate, data, deadline), spec)
        yield from batched(plan.images, lambda image: 60 + 4 * len(image.image_id) + len(image.reason))
        yield plan.summary

    def _read(self, messages: Iterator[Message], spec: AggregateSpec, deadline: Deadline) -> _Input:
        builder = AnswerTableBuilder(self._limits)
        beside = BesideReader(self._limits)
        for message in messages:
            deadline.check()
            if isinstance(message, AnswerChunk):
                builder.add(message)
            else:
                beside.take(message)
        return self._with_state(spec, builder.build(), beside)

    def _with_state(self, spec: AggregateSpec, table: AnswerTable, new: BesideReader) -> _Input:
        """The state's answers before the new ones; what is newly known beside them replaces what was known."""
        data = spec.state + b"".join(new.state)
        if not data:
            return _Input(table, new.gold, Beside(new.drawn, new.model, new.judged))
        state = unpack_state(data, self._limits)
        check_state(state, spec)
        merged = concatenate(state.table, table)
        if len(merged) > self._limits.answers:
            raise InvalidInput(
                f"state and answers together exceed {self._limits.answers:,} answers",
                field="state",
                reason="TOO_MUCH_DATA",
                fix="raise the aggregation service's max_answers",
            )
        gold = {**state.gold, **new.gold}
        beside = Beside(state.drawn | new.drawn, {**state.model, **new.model}, new.judged, state.warm)
        return _Input(merged, gold, beside)

    def _fit(self, spec: AggregateSpec, data: _Input, deadline: Deadline) -> Aggregation:
        result = aggregate(data.table, spec, data.gold, deadline.check, data.beside)
        self._report(result.summary)
        return result

    def _results(self, spec: AggregateSpec, data: _Input, deadline: Deadline) -> Iterator[Event]:
        yield Progress("fitting", 0, len(data.table))
        state = b""
        items: Iterable[ItemVerdict]
        if spec.compat:
            _check_compat(spec, data.beside)
            compat = aggregate_compat(data.table, spec, bool(data.gold))
            items, reports, summary = compat.items, compat.workers, compat.summary
            self._report(summary)
        else:
            result = self._fit(spec, data, deadline)
            items, reports, summary = result.items(), result.reports, result.summary
            if spec.with_state:
                state = _packed(spec, data, result)
        classes = len(summary.classes)
        for part in batched(
            items, lambda i: 80 + 4 * len(i.image_id) + 4 * sum(map(len, i.labels)) + 4 * len(i.posterior)
        ):
            deadline.check()
            yield part
        yield from batched(
            reports, lambda w: 80 + 4 * len(w.worker_id) + (0 if w.confusion is None else 4 * classes**2)
        )
        last = max(len(state) - 1, 0) // BATCH_BYTES * BATCH_BYTES
        for start in range(0, last, BATCH_BYTES):
            yield StatePart(state[start : start + BATCH_BYTES])
        yield replace(summary, state=state[last:])

    def _stored(self, uri: str, spec: AggregateSpec, previous: bool, deadline: Deadline) -> Iterator[Answer]:
        for answer in self._source.answers(uri, spec.multi_label, spec.compat, deadline.check):
            # The original takes each earlier file as an experiment of its own.
            yield replace(answer, job=f"{uri}#{answer.job}") if previous and spec.compat else answer

    def _report(self, summary: AggregateSummary) -> None:
        self._meter.increment("gandt_aggregation_answers_total", summary.answers, method=summary.method)
        self._meter.observe("gandt_aggregation_iterations", summary.iterations, method=summary.method)
        if summary.raw_agreement == summary.raw_agreement:
            self._meter.set_level("gandt_aggregation_agreement", summary.raw_agreement)


def batched(records: Iterable[R], size_of: Callable[[R], int]) -> Iterator[list[R]]:
    """Lists of at most about `BATCH_BYTES`, never empty."""
    part: list[R] = []
    size = 0
    for record in records:
        part.append(record)
        size += size_of(record)
        if size >= BATCH_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _first(messages: Iterator[Message], kind: type[S]) -> S:
    spec = next(messages, None)
    if not isinstance(spec, kind):
        raise InvalidInput("the first message must be the spec", field="spec", reason="NO_SPEC")
    return spec


def _check_compat(spec: AggregateSpec, beside: Beside) -> None:
    """Compat counts as the original did, which knew nothing of these."""
    asked = {
        "state": bool(spec.state or spec.with_state),
        "image model": bool(beside.model),
        "audit": bool(spec.audit_size or beside.judged),
    }
    for what, wanted in asked.items():
        if wanted:
            raise InvalidInput(
                f"compat counts as the original did, so it takes no {what}",
                field="compat",
                reason="COMPAT_ONLY_COUNTS",
                fix="aggregate without compat",
            )


def _packed(spec: AggregateSpec, data: _Input, result: Aggregation) -> bytes:
    beside = data.beside
    return pack_state(
        State(
            method=spec.method,
            named_classes=spec.classes,
            multi_label=spec.multi_label,
            table=data.table,
            gold=data.gold,
            drawn=frozenset(beside.drawn),
            model=beside.model,
            warm=result.warm,
        )
    )
