# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns several workers' answers into one label an image.

  gandt aggregate                                    the newest round of the project
  gandt aggregate answers.csv -o labels.csv          a table with image,worker,label
  gandt aggregate answers.csv --compat -o labels.csv as the original counted
  gandt aggregate answers.csv -o labels.csv --relabel-out again.csv && gandt manifest --images again.csv ...
                                                     the relabel loop: ask again what is not certain
  gandt aggregate today.csv --state answers.state -o labels.csv
                                                     only the new answers; the rest comes from the state
  gandt aggregate answers.csv -o labels.csv --audit-out sample.csv, then --audit judged.csv
                                                     bound the wrong labels by an expert's judgments
  gandt aggregate answers.csv -o labels.csv --plan-out again.csv --answer-budget 500
                                                     where the next 500 answers bring most

Every image that comes in goes out, as certain, uncertain, tied or unlabeled.
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.audit_flags import add_audit_flags
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "answers",
        metavar="ANSWERS",
        nargs="?",
        help=".csv, .jsonl or .parquet with image,worker,label; s3:// names a table or a Ground Truth output folder; "
        "without it the project's newest round",
    )
    parser.add_argument("--method", metavar="NAME", help="auto (default), hierarchical, agreement, majority, ...")
    parser.add_argument(
        "--gold",
        metavar="FILE",
        help="known labels (image,label; random says yes where a row was drawn at random): they measure workers",
    )
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
    parser.add_argument(
        "--state", metavar="FILE", help="go on from this file's answers when it is there, and keep all of them in it"
    )
    parser.add_argument(
        "--model-probabilities",
        metavar="FILE",
        help="an image model's probabilities (image, then a column a class): one more worker",
    )
    add_audit_flags(parser)
    _configure_plan(parser.add_argument_group("plan of the next answers"))


def _configure_plan(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--plan-out", metavar="FILE", help="table of images that get another answer, by worth")
    group.add_argument("--answer-budget", type=int, metavar="N", help="answers that may still be bought")
    group.add_argument("--max-answers", type=int, default=9, metavar="N", help="most answers an image (default 9)")
    group.add_argument(
        "--target-confidence", type=float, default=0.95, metavar="P", help="probability to reach (default 0.95)"
    )
    group.add_argument(
        "--explore-share",
        type=float,
        default=0.0,
        metavar="P",
        help="share of the images that get the most answers however sure they look",
    )


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.aggregate_calls import aggregate_files, aggregate_spec, plan_files, plan_spec, tell_price
    from gandt.cli.aggregate_tables import plan_values, summary_of, told, write_plan, write_tables
    from gandt.domain.aggregation.records import UNKNOWN_CLASS

    if args.answers is None:
        from gandt.cli.project_verbs import run_project_aggregate

        return run_project_aggregate(args, ctx)
    _check(args)
    tell_price(args, ctx)
    spec = aggregate_spec(args)
    planned = plan_spec(args, spec) if args.plan_out else None
    result = aggregate_files(args, ctx, spec)
    plan = None if planned is None else plan_files(args, ctx, planned, result.summary.state)
    summary = result.summary
    for warning in summary.warnings:
        ctx.out.warn(warning)
    write_tables(args, result)
    values = summary_of(args, result)
    if plan is not None:
        write_plan(args.plan_out, plan)
        values |= {"plan": plan_values(plan.summary)}
    for text in told(result, plan):
        ctx.out.note(text)
    ctx.out.summary(
        values,
        f"{summary.images} images by {summary.method} ({summary.explanation}): {values['certain']} certain, "
        f"{values['uncertain']} uncertain, {values['tied']} tied, {values['unlabeled']} unlabeled",
    )
    if not summary.images:
        ctx.out.note(f"{args.answers} holds no answers")
        return exit_codes.NOTHING
    partial = (args.compat and values["unlabeled"]) or any(UNKNOWN_CLASS in text for text in summary.warnings)
    return exit_codes.PARTIAL if partial else exit_codes.DONE


def _check(args: argparse.Namespace) -> None:
    from gandt.domain.errors import InvalidInput

    if args.compat and args.method:
        raise InvalidInput("--compat is a method of its own; leave --method out", field="method", reason="USAGE")
    if args.include_previous and not args.previous and not args.compat:
        raise InvalidInput("--include-previous needs --previous FILE", field="include_previous", reason="USAGE")
    if args.json and args.output == "-":
        raise InvalidInput("--json and -o - both want stdout", reason="USAGE", fix="name a file with -o")
    if args.audit_size is not None and not args.audit_out:
        raise InvalidInput("--audit-size needs --audit-out FILE", field="audit_size", reason="USAGE")
    if args.plan_out and (args.answers == "-" or args.answers.startswith("s3://")):
        raise InvalidInput(
            "a plan reads the answers a second time, so they must lie in a file here", field="plan_out", reason="USAGE"
        )
