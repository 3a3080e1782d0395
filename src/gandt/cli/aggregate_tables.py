# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gandt aggregate` writes and says: tables of labels, workers, images to ask again, and the summary."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from gandt.client.aggregation import AggregateResult, AnswerPlan
from gandt.domain.aggregation.records import ItemVerdict, PlanSummary, Verdict, WorkerReport, counted, json_number
from gandt.domain.aggregation.trust import NOT_A_BOUND, Audit, price_text
from gandt.domain.datasets import LabelStatus
from gandt.tables.files import write_rows
from gandt.tables.formats import WORKER_COLUMNS, WORKER_ESTIMATES
from gandt.tables.labels import LABEL_COLUMNS, label_row


def write_tables(args: argparse.Namespace, result: AggregateResult) -> None:
    """Labels, and the other tables that were asked for."""
    described = any(item.description for item in result.items)
    more = [*(["job"] if args.compat else []), *(["description"] if described else [])]
    output = args.output or (None if args.json else "-")
    if output:
        write_rows(output, [*LABEL_COLUMNS, *more], map(_label_row, result.items))
    if args.workers_out:
        more = ["count"] if args.compat else ["gold_answers", "gold_low", "gold_high", *WORKER_ESTIMATES]
        write_rows(args.workers_out, [*WORKER_COLUMNS, *more], map(_worker_row, result.workers))
    if args.relabel_out:
        again = [item for item in result.items if item.status is not LabelStatus.CERTAIN]
        write_rows(args.relabel_out, ("image", "status", "label", "confidence", "answers"), _once(again))
    if args.audit_out:  # without labels: who judges must not see them
        drawn = sorted((item for item in result.items if item.audit_place), key=lambda item: item.audit_place)
        write_rows(args.audit_out, ("image", "place"), ({"image": i.image_id, "place": i.audit_place} for i in drawn))


def write_plan(path: str, plan: AnswerPlan) -> None:
    """Images that get another answer, in order of worth."""
    rows = (
        {
            "image": image.image_id,
            "answers_needed": image.answers_needed,
            "confidence": _rounded(image.confidence),
            "reason": image.reason,
        }
        for image in plan.images
    )
    write_rows(path, ("image", "answers_needed", "confidence", "reason"), rows)


def told(result: AggregateResult, plan: AnswerPlan | None) -> Iterator[str]:
    """How far the labels can be trusted, in words."""
    s = result.summary
    if s.calibration is not None:
        c = s.calibration
        kind = "drawn at random" if c.drawn_at_random else "picked by hand, which say little about other images"
        text = f"on {counted(c.images, 'gold image')} {kind}: Brier score {c.brier:.4f}, log loss {c.log_loss:.4f}"
        text += f", calibration error {c.error:.4f}" if c.error is not None else ""
        yield text + (f", temperature {c.temperature:.3f}" if c.temperature is not None else "")
    if s.estimated_error == s.estimated_error:
        yield f"about {s.estimated_error:.2%} of the certain labels are wrong ({NOT_A_BOUND})"
    if s.audit is not None:
        yield from audit_told(s.audit)
    if plan is not None and plan.summary.accuracy_now == plan.summary.accuracy_now:  # there are images
        p = plan.summary
        yield (
            f"plan: {counted(p.answers, 'answer')} for {counted(p.images, 'image')}; expected accuracy "
            f"{p.accuracy_now:.2%} now, {p.accuracy_after:.2%} after ({NOT_A_BOUND})"
        )


def audit_told(a: Audit) -> Iterator[str]:
    """What an audit proves, and what is still to pay."""
    if a.judged:
        yield (
            f"audit: {a.wrong} of {a.judged} judged labels are wrong; at most {a.error_bound:.2%} of {a.settled:,} "
            f"certain labels are, at {a.confidence:.0%}, however often you look"
        )
    if a.error_bound > a.target:
        cost = price_text(a.target, a.confidence, a.if_none_wrong, a.if_some_wrong, a.expected_share)
        yield f"audit of {a.settled:,} certain labels: {cost}"


def plan_values(plan: PlanSummary) -> dict[str, Any]:
    """The plan in the summary object of --json; accuracies of no images are null."""
    values = asdict(plan)
    return values | {name: json_number(values[name]) for name in ("accuracy_now", "accuracy_after")}


def summary_of(args: argparse.Namespace, result: AggregateResult) -> dict[str, Any]:
    """The summary object of --json."""
    s = result.summary
    found = Counter(str(item.status) for item in result.items)
    people = [worker for worker in result.workers if not worker.image_model]
    return {
        "method": s.method,
        "explanation": s.explanation,
        "images": s.images,
        **{status: found[status] for status in ("certain", "uncertain", "tied", "unlabeled")},
        "answers": s.answers,
        "repeated_answers": s.repeated_answers,
        "abstentions": s.abstentions,
        "unreliable_answers": s.unreliable_answers,
        "workers": len(people),
        "unreliable_workers": sum(w.verdict is Verdict.UNRELIABLE for w in people),
        "alpha": json_number(s.alpha),
        "raw_agreement": json_number(s.raw_agreement),
        "iterations": s.iterations,
        "converged": s.converged,
        "calibration": None if s.calibration is None else asdict(s.calibration),
        "estimated_error": json_number(s.estimated_error),
        "estimated_error_is": NOT_A_BOUND,
        "audit": None if s.audit is None else asdict(s.audit),
        "output": args.output,
    }


def _label_row(item: ItemVerdict) -> dict[str, Any]:
    return {**label_row(item), "job": item.job, "description": item.description}


def _once(items: Iterable[ItemVerdict]) -> Iterator[dict[str, Any]]:
    """A row an image: in compat one image may have a verdict in each of several jobs."""
    seen: set[str] = set()
    for item in items:
        if item.image_id not in seen:
            seen.add(item.image_id)
            yield _label_row(item)


def _worker_row(worker: WorkerReport) -> dict[str, Any]:
    known, estimated = worker.reliability is not None, worker.estimated_accuracy is not None
    gold = worker.gold_interval or (None, None)
    return {
        "worker": worker.worker_id,
        "answers": worker.answers,
        "reliability": _rounded(worker.reliability),
        "low": _rounded(worker.low) if known else None,
        "high": _rounded(worker.high) if known else None,
        "gold_accuracy": _rounded(worker.gold_accuracy),
        "verdict": str(worker.verdict),
        "count": worker.compat_count,
        "gold_answers": worker.gold_answers,
        "gold_low": _rounded(gold[0]),
        "gold_high": _rounded(gold[1]),
        "estimated_accuracy": _rounded(worker.estimated_accuracy),
        "estimated_low": _rounded(worker.estimated_low) if estimated else None,
        "estimated_high": _rounded(worker.estimated_high) if estimated else None,
        "one_label_share": _rounded(worker.one_label_share),
        "spammer_score": _rounded(worker.spammer_score),
        "too_fast_share": _rounded(worker.too_fast_share),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
