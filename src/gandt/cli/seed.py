# SPDX-License-Identifier: GPL-3.0-or-later
"""Imports labels that are known already, from a table with the columns image,label.

  gandt seed labeled.csv                 images to start from
  gandt seed gold.csv --kind gold        known answers that measure workers
  gandt seed truth.csv --kind truth      all true labels, for simulated workers and for judging

An image is named by its path below the ingested folder, by its URI or by its id.
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes, steps
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("table", metavar="FILE", help=".csv, .jsonl or .parquet with image,label")
    parser.add_argument("--kind", choices=["seed", "gold", "truth"], default="seed", help="what they are for")
    parser.add_argument("--multilabel", action="store_true", help="an image may carry several labels")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.domain.catalog import LabelKind

    ctx.require_project()
    multi = args.multilabel or ctx.config.get("project", "multi_label")
    classes = ctx.config.get("project", "classes")
    other = ctx.config.get("project", "other_label")
    if classes and other and other not in classes:
        classes = [*classes, other]
    code = steps.import_labels(ctx, ctx.connect("jobcontroller"), args.table, LabelKind(args.kind), multi, classes)
    ctx.out.summary({"table": args.table, "kind": args.kind}, "next: gandt select")
    return code or exit_codes.DONE
