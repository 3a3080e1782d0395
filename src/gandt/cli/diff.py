# SPDX-License-Identifier: GPL-3.0-or-later
"""Compares two versions of a labeled dataset: images that are new, gone, or labeled otherwise.

  gandt diff january.csv february.parquet                what differs, as a table
  gandt diff january.csv february.csv -o changes.csv     the same into a file

Any tables with the columns image,label will do, as gandt export and gandt aggregate write them. The versions' hashes
depend on images and labels alone, not on format or order. Exit status 3 when nothing differs.
"""

from __future__ import annotations

import argparse
from collections import Counter

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.dataset_diff import ChangeKind, class_counts, dataset_hash, differences
from gandt.domain.datasets import join_labels
from gandt.domain.errors import InvalidInput
from gandt.tables.files import write_rows
from gandt.tables.labels import read_gold

COLUMNS = ("image", "change", "old", "new")
SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help="the earlier version: .csv, .jsonl or .parquet")
    parser.add_argument("new", metavar="NEW", help="the later version")
    parser.add_argument("-o", "--output", metavar="FILE", help="table of all differences")


def run(args: argparse.Namespace, ctx: Context) -> int:
    if args.old == args.new == "-":
        raise InvalidInput("only one version can come from stdin", reason="USAGE", fix="name a file for the other")
    if ctx.out.as_json and args.output == "-":
        raise InvalidInput("--json and a table both want stdout", reason="USAGE", fix="name a file with -o")
    old, new = read_gold(args.old), read_gold(args.new)
    changes = differences(old, new)
    rows = [(c.image, str(c.kind), join_labels(c.old), join_labels(c.new)) for c in changes]
    if args.output:
        write_rows(args.output, COLUMNS, (dict(zip(COLUMNS, row, strict=True)) for row in rows))
    elif rows:
        ctx.out.table(COLUMNS, rows[:SHOWN])
        if len(rows) > SHOWN:
            ctx.out.note(f"{len(rows) - SHOWN:,} more differ; -o FILE writes them all")
    kinds = Counter(change.kind for change in changes)
    before, after = class_counts(old), class_counts(new)
    values = {
        "old": {"images": len(old), "sha256": dataset_hash(old)},
        "new": {"images": len(new), "sha256": dataset_hash(new)},
        **{str(kind): kinds[kind] for kind in ChangeKind},
        "classes": {label: [before[label], after[label]] for label in sorted({*before, *after})},
        "output": args.output,
    }
    counts = ", ".join(f"{kinds[kind]:,} {kind}" for kind in ChangeKind)
    ctx.out.summary(values, f"{len(old):,} images, then {len(new):,}: {counts}")
    return exit_codes.DONE if changes else exit_codes.NOTHING
