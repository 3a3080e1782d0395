# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns several workers' answers into one label an image.

  gandt aggregate                                    the newest round of the project
  gandt aggregate answers.csv -o labels.csv          a table with image,worker,label
  gandt aggregate answers.csv --compat -o labels.csv as the original counted
  gandt aggregate answers.csv -o labels.csv --relabel-out again.csv && gandt manifest --images again.csv ...
                                                     the relabel loop: ask again what is not certain

Every image that comes in goes out, as certain, uncertain, tied or unlabeled.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context

if TYPE_CHECKING:
    from gandt.client.aggregation import AggregateResult
    from gandt.domain.aggregation.records import AggregateSpec, ItemVerdict, WorkerReport
    from gandt.domain.datasets import Answer


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "answers",
        metavar="ANSWERS",
        nargs="?",
        help=".csv, .jsonl or .parquet with image,worker,label; s3:// names a table or a Ground Truth output folder; "
        "without it the project's newest round",
    )
    parser.add_argument("--method", metavar="NAME", help="auto (default), hierarchical, agreement, majority, ...")
    parser.add_argument("--gold", metavar="FILE", help="known labels (image,label): they measure workers")
    parser.add_argument(
        "--previous",
        metavar="FILE",
        action="append",
        default=[],
        help="answers of an earlier job: they measure workers",
    )
    parser.add_argument("--include-previous", action="store_true", help="also label the images of earlier jobs")
    parser.add_argument("--min-answers", type=int, default=2, metavar="N", help="fewest answers to be certain")
    parser.add_argument(
        "--min-proportion", type=float, default=0.5, metavar="P", help="share or probability to exceed to be certain"
    )
    parser.add_argument(
        "--reliability-threshold", type=float, default=0.8, metavar="R", help="reliability that a worker must exceed"
    )
    parser.add_argument(
        "--min-worker-answers", type=int, default=10, metavar="N", help="fewest answers to judge a worker"
    )
    parser.add_argument(
        "--duplicates", choices=["first", "last", "error"], default="first", help="which repeated answer counts"
    )
    parser.add_argument("--classes", metavar="A,B,...", help="label space in the order of ties; else the labels seen")
    parser.add_argument("--multilabel", action="store_true", help="an image may carry several labels")
    parser.add_argument("--compat", action="store_true", help="reproduce the original count for count")
    parser.add_argument("-o", "--output", metavar="FILE", help="labels table; default stdout")
    parser.add_argument("--workers-out", metavar="FILE", help="table of workers")
    parser.add_argument("--relabel-out", metavar="FILE", help="table of images that need another answer")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.domain.aggregation.records import UNKNOWN_CLASS

    if args.answers is None:
        from gandt.cli.project_verbs import run_project_aggregate

        return run_project_aggregate(args, ctx)
    _check(args)
    result = _aggregate(args, ctx)
    summary = result.summary
    for warning in summary.warnings:
        ctx.out.warn(warning)
    _write(args, result)
    found = Counter(str(item.status) for item in result.items)
    values = _summary(args, result, found)
    ctx.out.summary(
        values,
        f"{summary.images} images by {summary.method} ({summary.explanation}): {found['certain']} certain, "
        f"{found['uncertain']} uncertain, {found['tied']} tied, {found['unlabeled']} unlabeled",
    )
    if not summary.images:
        ctx.out.note(f"{args.answers} holds no answers")
        return exit_codes.NOTHING
    partial = (args.compat and found["unlabeled"]) or any(UNKNOWN_CLASS in text for text in summary.warnings)
    return exit_codes.PARTIAL if partial else exit_codes.DONE


def _check(args: argparse.Namespace) -> None:
    from gandt.domain.errors import InvalidInput

    if args.compat and args.method:
        raise InvalidInput("--compat is a method of its own; leave --method out", field="method", reason="USAGE")
    if args.include_previous and not args.previous and not args.compat:
        raise InvalidInput("--include-previous needs --previous FILE", field="include_previous", reason="USAGE")
    if args.json and args.output == "-":
        raise InvalidInput("--json and -o - both want stdout", reason="USAGE", fix="name a file with -o")


def _spec(args: argparse.Namespace) -> AggregateSpec:
    from gandt.domain.aggregation.records import AUTO, AggregateSpec, DuplicatePolicy
    from gandt.domain.datasets import check_classes

    return AggregateSpec(
        method=args.method or AUTO,
        classes=check_classes(args.classes.split(",")) if args.classes else (),
        multi_label=args.multilabel,
        min_answers=args.min_answers,
        min_proportion=args.min_proportion,
        reliability_threshold=args.reliability_threshold,
        compat=args.compat,
        duplicates=DuplicatePolicy(args.duplicates),
        include_previous=args.include_previous,
        min_worker_answers=args.min_worker_answers,
    )


def _aggregate(args: argparse.Namespace, ctx: Context) -> AggregateResult:
    from gandt.domain.progress import Progress

    def show(progress: Progress) -> None:
        ctx.out.progress(progress.stage, progress.done, progress.total)

    spec = _spec(args)
    client = ctx.connect("aggregation")
    if args.answers.startswith("s3://"):
        return client.aggregate_stored([args.answers], spec, args.gold or "", args.previous, show)
    from gandt.tables.answers import read_answers
    from gandt.tables.labels import read_gold

    def read(path: str) -> Iterator[Answer]:
        return read_answers(path, args.multilabel, raw=args.compat)

    def earlier() -> Iterator[Answer]:
        for path in args.previous:
            for answer in read(path):
                # The original takes each earlier file as an experiment of its own.
                yield replace(answer, job=f"{path}#{answer.job}") if args.compat else answer

    gold = read_gold(args.gold) if args.gold else None
    return client.aggregate(read(args.answers), spec, gold, earlier(), show)


def _write(args: argparse.Namespace, result: AggregateResult) -> None:
    from gandt.domain.datasets import LabelStatus
    from gandt.tables.files import write_rows
    from gandt.tables.formats import WORKER_COLUMNS
    from gandt.tables.labels import LABEL_COLUMNS

    described = any(item.description for item in result.items)
    more = [*(["job"] if args.compat else []), *(["description"] if described else [])]
    output = args.output or (None if args.json else "-")
    if output:
        write_rows(output, [*LABEL_COLUMNS, *more], map(_label_row, result.items))
    if args.workers_out:
        more = ["count"] if args.compat else ["gold_answers", "gold_low", "gold_high", "estimated_accuracy"]
        write_rows(args.workers_out, [*WORKER_COLUMNS, *more], map(_worker_row, result.workers))
    if args.relabel_out:
        again = [item for item in result.items if item.status is not LabelStatus.CERTAIN]
        write_rows(args.relabel_out, ("image", "status", "label", "confidence", "answers"), _once(again))


def _label_row(item: ItemVerdict) -> dict[str, Any]:
    from gandt.tables.labels import label_row

    return {**label_row(item), "job": item.job, "description": item.description}


def _once(items: Iterable[ItemVerdict]) -> Iterator[dict[str, Any]]:
    """A row an image: in compat one image may have a verdict in each of several jobs."""
    seen: set[str] = set()
    for item in items:
        if item.image_id not in seen:
            seen.add(item.image_id)
            yield _label_row(item)


def _worker_row(worker: WorkerReport) -> dict[str, Any]:
    known = worker.reliability is not None
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
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _summary(args: argparse.Namespace, result: AggregateResult, found: Counter[str]) -> dict[str, Any]:
    from gandt.domain.aggregation.records import Verdict, json_number

    s = result.summary
    return {
        "method": s.method,
        "explanation": s.explanation,
        "images": s.images,
        **{status: found[status] for status in ("certain", "uncertain", "tied", "unlabeled")},
        "answers": s.answers,
        "repeated_answers": s.repeated_answers,
        "abstentions": s.abstentions,
        "unreliable_answers": s.unreliable_answers,
        "workers": len(result.workers),
        "unreliable_workers": sum(w.verdict is Verdict.UNRELIABLE for w in result.workers),
        "alpha": json_number(s.alpha),
        "raw_agreement": json_number(s.raw_agreement),
        "iterations": s.iterations,
        "converged": s.converged,
        "output": args.output,
    }
