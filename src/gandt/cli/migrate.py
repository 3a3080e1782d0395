# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes over the answers of another labeling tool as a table of answers.

  gandt migrate export.json -o answers.csv              Label Studio, JSON or JSON_MIN
  gandt migrate annotations.xml -o answers.csv          CVAT for images 1.1
  gandt migrate assignments.tsv -o answers.csv          Toloka
  gandt migrate export.csv --image-field url --worker-field annotator --label-field class -o answers.csv

The tool is known by the file's suffix; --from says it where that is wrong. Gold labels of the source go to --gold-out.
Ground Truth's output is read by `gandt answers`. Then: gandt aggregate answers.csv --gold gold.csv -o labels.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import InvalidInput
from gandt.tables.answers import write_answers
from gandt.tables.files import write_rows
from gandt.tables.foreign_answers import BY_SUFFIX, READERS, Fields, gold_rows_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="what the other tool exported")
    parser.add_argument("--from", dest="source", choices=[*READERS], help="which tool (default: by the suffix)")
    parser.add_argument("--image-field", default="", metavar="NAME", help="field or column with the image")
    parser.add_argument("--label-field", default="", metavar="NAME", help="control, output or column with the label")
    parser.add_argument("--worker-field", default="", metavar="NAME", help="column with the worker; for CVAT a name")
    parser.add_argument("--gold-out", metavar="FILE", help="table of the source's gold labels")
    parser.add_argument("-o", "--output", default="-", metavar="FILE", help="answers table (default: stdout)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    if ctx.out.as_json and args.output == "-":
        raise InvalidInput("--json and a table both want stdout", reason="USAGE", fix="name a file with -o")
    source = args.source or BY_SUFFIX.get(Path(args.file).suffix.lower(), "table")
    found = READERS[source](args.file, Fields(args.image_field, args.label_field, args.worker_field))
    write_answers(args.output, found.answers)
    if args.gold_out:
        write_rows(args.gold_out, ("image", "label"), gold_rows_of(found.gold))
    elif found.gold:
        ctx.out.warn(f"{len(found.gold):,} gold labels are not written; name a file with --gold-out")
    for reason, number in found.left_out.items():
        ctx.out.warn(f"{number:,} {reason} are left out")
    images = len({answer.image_id for answer in found.answers})
    workers = len({answer.worker_id for answer in found.answers})
    values = {
        "source": source,
        "answers": len(found.answers),
        "images": images,
        "workers": workers,
        "gold": len(found.gold),
        "left_out": found.left_out,
        "output": args.output,
    }
    ctx.out.summary(values, f"{len(found.answers):,} answers of {workers:,} workers on {images:,} images from {source}")
    return exit_codes.DONE if found.answers or found.gold else exit_codes.NOTHING
