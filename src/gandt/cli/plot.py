# SPDX-License-Identifier: GPL-3.0-or-later
"""Draws how many workers agree on each label: the original's stacked bars of majority proportions, as SVG.

gandt plot labels.csv -o majority.svg       labels.csv as `gandt aggregate` writes it
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.datasets import LabelEstimate, LabelStatus, split_labels
from gandt.domain.errors import GandtError, InvalidInput
from gandt.tables.files import read_rows, replacing


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("labels", metavar="LABELS", help="labels table of gandt aggregate; - is stdin")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".svg to write")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.domain.aggregation.majority_plot import majority_plot, majority_proportions

    if Path(args.output).suffix != ".svg":
        raise InvalidInput(
            f"{args.output} is no SVG file", reason="UNKNOWN_FORMAT", fix="name a file that ends in .svg"
        )
    estimates = [
        LabelEstimate(
            image_id=row.required("image"),
            labels=split_labels(row.text("label")),
            confidence=row.number("confidence", 0.0),
            status=LabelStatus(row.text("status") or LabelStatus.UNCERTAIN),
            answers=int(row.number("answers", 0)),
            agreeing=int(row.number("agreeing", 0)),
        )
        for row in read_rows(args.labels, ("image", "label", "answers", "agreeing"))
    ]
    if not estimates:
        raise GandtError(f"{args.labels} holds no labels", reason="NOTHING_TO_DO")
    with replacing(args.output) as scratch:
        scratch.write_text(majority_plot(majority_proportions(estimates)), encoding="utf-8")
    ctx.out.summary({"file": args.output, "images": len(estimates)}, f"{args.output} is written")
    return exit_codes.DONE
