# SPDX-License-Identifier: GPL-3.0-or-later
"""What selection does: pick images to label, decide which to leave, replay strategies."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import TypeVar

import numpy as np

from gandt.domain import paging
from gandt.domain.errors import AlreadyExists
from gandt.domain.progress import Progress
from gandt.domain.selection.filtering import LabeledVectors, check_filter, filter_pool
from gandt.domain.selection.pool import Pool, unit_rows
from gandt.domain.selection.records import (
    DecisionBlock,
    EvaluateRun,
    EvaluateSpec,
    FilterSpec,
    FilterSummary,
    InputChunk,
    Pick,
    SelectResult,
    SelectSpec,
    SelectSummary,
    StrategyInfo,
)
from gandt.domain.selection.registry import listed
from gandt.domain.selection.replay import Truth, evaluate
from gandt.domain.selection.selecting import Known, check_select, select
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.training import merged, training_set
from gandt.ports.clock import Clock, Deadline
from gandt.ports.meter import Meter, Metric
from gandt_selection.intake import Intake, Sources, take_in

T = TypeVar("T")

CANDIDATES = "gandt_selection_candidates_total"
SECONDS = "gandt_selection_select_seconds"
METRICS = (
    Metric(CANDIDATES, "counter", "Pool images looked at.", ("strategy",)),
    Metric(SECONDS, "histogram", "Seconds of a call inside the service, reading vectors included.", ("strategy",)),
)
DECISIONS_A_BLOCK = 2_048
REMEMBERED_PICKS = 200_000  # over all remembered answers; a pick takes about a kilobyte
MAX_PAGE = 100
DEFAULT_PAGE = 50


class Selection:
    """Use cases of the selection service. Keeps nothing but the last answers by request id.

    Args:
        sources: where vectors come from.
        meter: where metrics go.
        clock: for the time a call takes.
        remembered: answers kept by request id.
    """

    def __init__(self, sources: Sources, meter: Meter, clock: Clock, remembered: int = 64) -> None:
        self._sources = sources
        self._meter = meter
        self._clock = clock
        self._remembered = remembered
        self._answers: OrderedDict[str, tuple[SelectSpec, SelectResult]] = OrderedDict()
        self._lock = threading.Lock()

    def list_strategies(self, page_size: int = 0, page_token: str = "") -> tuple[list[StrategyInfo], str]:
        """A page of strategies by name, and the token of the next page.

        Raises:
            InvalidInput: a page size above 100.
        """
        size = paging.page_size(page_size, DEFAULT_PAGE, MAX_PAGE)
        return paging.page_by_name(listed(), lambda info: info.name, size, page_token)

    def select(
        self, spec: SelectSpec, chunks: Iterator[InputChunk], deadline: Deadline
    ) -> Iterator[Progress | tuple[Pick, ...] | SelectSummary]:
        """Progress, then the picks, then the summary.

        Raises:
            InvalidInput, NotFound, WrongState: see `gandt.domain.selection.selecting.select` and `take_in`.
            AlreadyExists: the request id was used for another spec.
            DeadlineExceeded: no time is left, or the caller went away.
        """
        check_select(spec)
        result = self._recalled(spec)
        if result is not None:
            for _ in chunks:  # the caller sends to the end, whatever we know
                deadline.check()
        else:
            result = yield from _checked(self._select(spec, chunks), deadline)
            self._remember(spec, result)
        yield result.picks
        yield result.summary

    def filter(
        self, spec: FilterSpec, chunks: Iterator[InputChunk], deadline: Deadline
    ) -> Iterator[Progress | DecisionBlock | FilterSummary]:
        """Progress, then decisions in the order of the pool, then the summary. Raises as `select`."""
        check_filter(spec)
        begun = self._clock.monotonic()
        kind = "filter" if spec.min_proportion is None else "filter-compat"
        with closing(self._sources.new_rows()) as rows:
            intake = yield from _checked(take_in(spec.pool, chunks, self._sources, Intake(rows)), deadline)
            ids, pool = intake.pool()
            filtered = yield from _checked(filter_pool(spec, ids, pool, intake.labeled_vectors()), deadline)
        self._measured(kind, len(ids), begun)
        yield from filtered.blocks(DECISIONS_A_BLOCK)
        yield filtered.summary

    def evaluate(
        self, spec: EvaluateSpec, chunks: Iterator[InputChunk], deadline: Deadline
    ) -> Iterator[Progress | EvaluateRun]:
        """Progress and finished runs. Raises as `select`."""
        begun = self._clock.monotonic()
        with closing(self._sources.new_rows()) as rows:
            intake = yield from _checked(take_in(spec.pool, chunks, self._sources, Intake(rows)), deadline)
            known = intake.labeled_vectors()
        truth = _truth(known)
        for report in evaluate(spec, truth):
            deadline.check()
            yield report
        self._measured("evaluate", len(truth.ids), begun)

    def _select(self, spec: SelectSpec, chunks: Iterator[InputChunk]) -> Steps[SelectResult]:
        begun = self._clock.monotonic()
        with closing(self._sources.new_rows()) as rows:
            intake = yield from take_in(spec.pool, chunks, self._sources, Intake(rows))
            ids, kept = intake.pool()
            known = _known(intake.labeled_vectors(), intake.groups, intake.excluded)
            result = yield from select(spec, Pool(ids, kept), known)
        self._measured(result.summary.strategy, result.summary.scanned, begun)
        return result

    def _measured(self, kind: str, candidates: int, begun: float) -> None:
        self._meter.increment(CANDIDATES, candidates, strategy=kind)
        self._meter.observe(SECONDS, self._clock.monotonic() - begun, strategy=kind)

    def _recalled(self, spec: SelectSpec) -> SelectResult | None:
        with self._lock:
            found = self._answers.get(spec.request_id) if spec.request_id else None
        if found is None:
            return None
        if found[0] != spec:
            raise AlreadyExists(
                f"request id {spec.request_id!r} was used for another selection",
                kind="request",
                id=spec.request_id,
                reason="REQUEST_ID_REUSED",
                fix="use a new request id",
            )
        return found[1]

    def _remember(self, spec: SelectSpec, result: SelectResult) -> None:
        if not spec.request_id or not self._remembered:
            return
        with self._lock:
            self._answers[spec.request_id] = (spec, result)
            while self._answers and (
                len(self._answers) > self._remembered
                or sum(len(answer.picks) for _, answer in self._answers.values()) > REMEMBERED_PICKS
            ):
                self._answers.popitem(last=False)


def _checked(steps: Steps[T], deadline: Deadline) -> Steps[T]:
    """The same steps, asking the deadline between them."""
    with closing(steps):
        while True:
            deadline.check()
            try:
                report = next(steps)
            except StopIteration as end:
                result: T = end.value
                return result
            yield report


def _known(labeled: LabeledVectors, groups: dict[str, str], excluded: Collection[str] = ()) -> Known:
    units = unit_rows(labeled.vectors)
    usable = np.flatnonzero(units.any(axis=1)).tolist()
    names = [labeled.ids[row] for row in usable]
    return Known(
        training=training_set(merged(labeled.mentions), names, units[usable]),
        groups=groups,
        unknown=labeled.unknown,
        broken=sorted(set(labeled.ids) - set(names)),
        in_flight=frozenset(excluded),
    )


def _truth(labeled: LabeledVectors) -> Truth:
    """The labeled images with usable vectors, by id."""
    training = _known(labeled, {}).training
    return Truth(training.ids, training.vectors, dict(zip(training.ids, training.labels, strict=True)))
