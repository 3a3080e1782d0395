# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the labeled dataset.

gandt export -o labels.csv       .csv, .jsonl, .parquet, or .manifest (Ground Truth's augmented manifest)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import GandtError
from gandt.tables.files import replacing

BUCKET = "gandt"  # the project's own


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="where to write; s3:// is written there")
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")
    parser.add_argument("--include-uncertain", action="store_true", help="images without a certain label too")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    kind = "csv" if args.output == "-" else Path(args.output).suffix[1:]
    uri = args.output if args.output.startswith("s3://") else f"s3://{BUCKET}/exports/labels.{kind}"
    made = ctx.connect("jobcontroller").export_labels(uri, kind, args.campaign, args.include_uncertain)
    if not made.rows:
        raise GandtError(
            "there are no labels to export yet",
            reason="NOTHING_TO_DO",
            fix="label a round first, or take the doubtful ones too with --include-uncertain",
        )
    if args.output != uri:
        from gandt_standalone.bootstrap import objects_of

        try:
            data = objects_of(ctx.project_dir, uri).get(uri)
        except GandtError as e:
            raise GandtError(
                f"the labels are in {uri}, which cannot be read from here: {e.message}",
                reason="EXPORT_ELSEWHERE",
                fix="name a place in the object store, -o s3://bucket/labels.csv, and fetch it from there",
            ) from e
        if args.output == "-":
            sys.stdout.write(data.decode("utf-8"))
            return exit_codes.DONE
        with replacing(args.output) as scratch:
            scratch.write_bytes(data)
    values = {"file": args.output, "rows": made.rows, "sha256": made.sha256}
    ctx.out.summary(values, f"{made.rows:,} labels in {args.output}")
    return exit_codes.DONE
