# SPDX-License-Identifier: GPL-3.0-or-later
"""Compat over a table of answers: the original's result, with every image that it loses put back as unlabeled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from gandt.domain.aggregation.answer_table import ANSWERED, AnswerTable
from gandt.domain.aggregation.compat import CompatAnswer, CompatImage, CompatResult, filter_unreliable
from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.aggregation.records import (
    AggregateSpec,
    AggregateSummary,
    ItemVerdict,
    Verdict,
    WorkerReport,
    counted,
)
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import WrongState


@dataclass(frozen=True, slots=True)
class CompatAggregation:
    """The result in the service's records; `raw` has the original's frames."""

    items: Sequence[ItemVerdict]
    workers: Sequence[WorkerReport]
    summary: AggregateSummary
    raw: CompatResult


def aggregate_compat(table: AnswerTable, spec: AggregateSpec, has_gold: bool = False) -> CompatAggregation:
    """Runs the original's rule on all answers.

    Blank, unsure and broken answers are the original's empty answers.

    Args:
        table: all answers; those of earlier jobs are one earlier experiment a job.
        spec: thresholds and include_previous.
        has_gold: gold was given; the original never finds a decoy, so it only earns a warning.
    Raises:
        WrongState: where the original crashes (see `compat.filter_unreliable`), or where it would return nothing
            because every worker is unreliable (EVERYONE_UNRELIABLE).
    """
    rows = _rows(table)
    earlier = table.previous.tolist()
    current = [row for row, before in zip(rows, earlier, strict=True) if not before]
    experiments: dict[str, list[CompatAnswer]] = {}
    for row, before in zip(rows, earlier, strict=True):
        if before:
            experiments.setdefault(row.job, []).append(row)
    result = filter_unreliable(
        current,
        list(experiments.values()),
        spec.reliability_threshold,
        spec.min_answers,
        spec.min_proportion,
        spec.include_previous,
    )
    if not result.filtered:
        raise WrongState(
            "every worker is unreliable, so the original returns no image at all",
            kind="answers",
            reason="EVERYONE_UNRELIABLE",
            fix="lower --reliability-threshold, or aggregate without --compat",
        )
    wanted = {(row.job, row.image): None for row in current}
    if spec.include_previous:
        wanted |= {(current[0].job, row.image): None for rows in experiments.values() for row in rows}
    found = {(image.job, image.image): image for image in result.filtered}
    items = [_item(found.get(key), *key) for key in wanted]
    lost = sum(item.status is LabelStatus.UNLABELED for item in items)
    return CompatAggregation(items, _workers(rows, result), _summary(table, result, items, lost, has_gold), result)


def _rows(table: AnswerTable) -> list[CompatAnswer]:
    bounds = table.label_ptr.tolist()
    labels = [table.labels[i] for i in table.label.tolist()]
    return [
        CompatAnswer(
            table.jobs[job],
            table.images[image],
            table.workers[worker],
            tuple(labels[start:stop]) if state == ANSWERED else (),
        )
        for job, image, worker, state, start, stop in zip(
            table.job.tolist(),
            table.image.tolist(),
            table.worker.tolist(),
            table.state.tolist(),
            bounds[:-1],
            bounds[1:],
            strict=True,
        )
    ]


def _item(found: CompatImage | None, job: str, image: str) -> ItemVerdict:
    if found is None:
        return ItemVerdict(image, (), 0.0, LabelStatus.UNLABELED, 0, 0, job=job)
    return ItemVerdict(
        image_id=image,
        labels=found.majority,
        confidence=min(1.0, found.top / found.rows),
        status=LabelStatus.CERTAIN if found.certain else LabelStatus.UNCERTAIN,
        answers=found.rows,
        agreeing=found.top,
        job=job,
        description=found.verbose,
    )


def _workers(rows: Sequence[CompatAnswer], result: CompatResult) -> list[WorkerReport]:
    """All workers by id; those that the original drops are unknown."""
    given = Counter(row.worker for row in rows)
    known = {worker.worker: worker for worker in result.workers}
    reports = []
    for name in sorted(given):
        worker = known.get(name)
        if worker is None:
            reports.append(WorkerReport(name, given[name], None, 0.0, 1.0, None, 0, Verdict.UNKNOWN))
            continue
        low, high = wilson_interval(worker.mean * worker.scored, worker.scored)
        verdict = Verdict.RELIABLE if worker.reliable else Verdict.UNRELIABLE
        reports.append(
            WorkerReport(
                name, given[name], worker.mean, float(low), float(high), None, 0, verdict, compat_count=worker.count
            )
        )
    return reports


def _summary(
    table: AnswerTable, result: CompatResult, items: Sequence[ItemVerdict], lost: int, has_gold: bool
) -> AggregateSummary:
    reliable = {worker.worker for worker in result.workers if worker.reliable}
    scored = {worker.worker for worker in result.workers}
    dropped = [name for name in table.workers if name not in scored]
    warnings = []
    if lost:
        warnings.append(
            f"{counted(lost, 'image')} answered only by workers that the original leaves out; it loses them"
        )
    if dropped:
        warnings.append(
            f"{counted(len(dropped), 'worker')} without a certain image; the original drops all their answers"
        )
    if has_gold:
        warnings.append("gold labels were not used: the original never finds a decoy")
    left_out = sum(table.workers[w] not in reliable for w in table.worker.tolist())
    return AggregateSummary(
        method="compat",
        explanation="the original's rule, count for count",
        classes=tuple(sorted({label for item in items for label in item.labels})),
        images=len(items),
        answers=len(table),
        unreliable_answers=left_out,
        alpha=math.nan,
        raw_agreement=math.nan,
        warnings=tuple(warnings),
    )
