# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the answers of the newest round's ended labeling jobs; running it again changes nothing."""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--round", default="", metavar="ID", help="round (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    report = ctx.connect("jobcontroller").collect_round(args.round)
    for answer in report.quarantined:
        ctx.out.warn(f"{answer.rule}: {answer.uri}: {answer.excerpt}")
    ctx.out.summary(
        {
            "round": report.round.number,
            "state": str(report.round.state),
            "new_answers": report.new_answers,
            "answers": report.round.answers,
            "failed_images": report.failed_images,
            "quarantined": len(report.quarantined),
        },
        f"round {report.round.number}: {report.new_answers} new answers, {report.failed_images} images without; "
        + ("next: gandt aggregate" if report.round.state == "collected" else "people are still at it"),
    )
    if report.round.state == "labeling":
        return exit_codes.WAITING
    return exit_codes.PARTIAL if report.quarantined or report.failed_images else exit_codes.DONE
