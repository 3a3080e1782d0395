# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the labeled dataset.

gandt export -o labels.csv       .csv, .jsonl, .parquet, or .manifest (Ground Truth's augmented manifest)
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import GandtError
from gandt.tables.files import write_rows
from gandt.tables.labels import PROJECT_LABEL_COLUMNS


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help="where to write; s3:// is written there")
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")
    parser.add_argument("--include-uncertain", action="store_true", help="images without a certain label too")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    suffix = Path(args.output).suffix
    if args.output.startswith("s3://") or suffix == ".manifest":
        uri = args.output if args.output.startswith("s3://") else f"s3://gandt/exports/{Path(args.output).name}"
        kind = "manifest" if suffix == ".manifest" else suffix[1:]
        made = client.export_labels(uri, kind, args.campaign, args.include_uncertain)
        ctx.out.summary({"uri": made.uri, "rows": made.rows, "sha256": made.sha256}, f"{made.rows} rows in {made.uri}")
        return exit_codes.DONE if made.rows else exit_codes.NOTHING
    wanted = [
        label
        for label in client.list_labels(args.campaign)
        if args.include_uncertain or label.status == LabelStatus.CERTAIN
    ]
    if not wanted:
        raise GandtError("there are no labels to export yet", reason="NOTHING_TO_DO", fix="label a round first")
    rows = write_rows(
        args.output,
        PROJECT_LABEL_COLUMNS,
        (
            {
                "image": label.uris[0] if label.uris else label.image_id,
                "label": label.labels,
                "confidence": label.confidence,
                "status": label.status,
                "answers": label.answers,
                "agreeing": label.agreeing,
                "arm": label.arm,
                "round": label.round,
                "inclusion_probability": label.inclusion_probability,
            }
            for label in wanted
        ),
    )
    if args.output != "-":
        ctx.out.summary({"file": args.output, "rows": rows}, f"{rows} labels in {args.output}")
    return exit_codes.DONE
