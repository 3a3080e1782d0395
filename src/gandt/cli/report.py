# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the report of a campaign as one HTML file, with the same figures as JSON beside it."""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", default="report.html", metavar="FILE", help="where to write")
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.report_files import write_report

    ctx.require_project()
    figures, sentence = write_report(ctx, ctx.connect("jobcontroller"), args.campaign, args.output)
    ctx.out.summary({"file": args.output, **figures.to_json()}, f"{args.output} is written. {sentence}")
    return exit_codes.DONE
