# SPDX-License-Identifier: GPL-3.0-or-later
"""Picks the images to label next.

  gandt select                                       the next round of the project
  gandt select --labeled labeled.csv --vectors vectors.parquet --strategy find-more --target cat --count 20 -o picks.csv

A tenth of the picks is drawn uniformly as control (--control), so that what is in the pool can be estimated honestly;
every pick says why it was picked.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import InvalidInput

if TYPE_CHECKING:
    from gandt.domain.selection.records import Pick, SelectResult, SelectSpec


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's flags."""
    parser.add_argument("--count", type=int, metavar="N", help="images to pick")
    parser.add_argument("--strategy", metavar="NAME", help="find-more, find-similar, cover, ... (default: auto)")
    files = parser.add_argument_group("on plain files")
    files.add_argument("--vectors", metavar="FILE", help="vectors.parquet, as gandt embed writes; else the project")
    files.add_argument("--labeled", metavar="FILE", help="table with image,label; without it nothing is known yet")
    files.add_argument("--target", action="append", default=[], metavar="LABEL", help="label to find; may repeat")
    files.add_argument("--other-label", default="Other", metavar="LABEL", help="none of these (default: Other)")
    files.add_argument("--control", type=float, metavar="SHARE", help="share drawn uniformly (default: 0.1)")
    files.add_argument("--groups", metavar="FILE", help="near-duplicate groups, as gandt dedupe writes")
    files.add_argument("--max-per-group", type=int, default=1, metavar="N", help="picks of one group (default: 1)")
    files.add_argument("--exclude", metavar="FILE", help="table of images that must not be picked")
    files.add_argument("--round", type=int, default=1, metavar="N", help="number of this round (default: 1)")
    files.add_argument("-o", "--output", metavar="FILE", help="picks table; default stdout")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Writes the picks, or makes the project's next round."""
    if args.vectors is None:
        if args.labeled is not None:
            raise InvalidInput(
                "--labeled needs --vectors", field="vectors", reason="USAGE", fix="name the vectors file"
            )
        from gandt.cli.project_verbs import run_project_select

        return run_project_select(args, ctx)
    _check(args)
    result = _select(args, ctx)
    for warning in result.summary.warnings:
        ctx.out.warn(warning)
    output = args.output or ("" if args.json else "-")
    if output:
        from gandt.tables.files import write_rows
        from gandt.tables.formats import PICK_COLUMNS

        extra = ("predicted_label", "predicted_probability", "group")
        write_rows(output, (*PICK_COLUMNS, *extra), map(_row, result.picks))
    summary = result.summary
    ctx.out.summary(
        {
            "strategy": summary.strategy,
            "explanation": summary.explanation,
            "scanned": summary.scanned,
            "picked": summary.picked,
            "arms": dict(Counter(str(pick.arm) for pick in result.picks)),
            "unusable": list(summary.unusable_ids),
            "unknown": list(summary.unknown_ids),
            "output": output or None,
        },
        f"{summary.picked:,} of {summary.scanned:,} images by {summary.strategy}: {summary.explanation}",
    )
    return exit_codes.DONE if summary.picked else exit_codes.NOTHING


def _check(args: argparse.Namespace) -> None:
    if args.count is None:
        raise InvalidInput("--count says how many images to pick", field="count", reason="USAGE", fix="add --count N")
    for name, value in (("count", args.count), ("round", args.round), ("max-per-group", args.max_per_group)):
        if value < 1:
            raise InvalidInput(f"--{name} is {value}, it must be at least 1", field=name, reason="USAGE")
    if args.json and args.output == "-":
        raise InvalidInput("--json and -o - both want stdout", reason="USAGE", fix="name a file with -o")


def _select(args: argparse.Namespace, ctx: Context) -> SelectResult:
    from gandt.cli.filter import open_vectors
    from gandt.tables.labels import read_images, read_labeled

    labeled = read_labeled(args.labeled) if args.labeled else []
    excluded = read_images(args.exclude) if args.exclude else []
    groups = _groups(args.groups) if args.groups else {}
    dim, vectors = open_vectors(args.vectors)
    return ctx.connect("selection").select(
        _spec(args, ctx.seed, dim),
        labeled,
        excluded,
        groups,
        vectors,
        lambda p: ctx.out.progress(p.stage, p.done, p.total),
    )


def _spec(args: argparse.Namespace, seed: int, dim: int) -> SelectSpec:
    from gandt.domain.selection.records import DEFAULT_CONTROL_FRACTION, PoolSource, SelectSpec

    return SelectSpec(
        pool=PoolSource(inline_dim=dim),
        strategy=args.strategy or "",
        target_labels=tuple(args.target),
        other_label=args.other_label,
        count=args.count,
        control_fraction=DEFAULT_CONTROL_FRACTION if args.control is None else args.control,
        seed=seed,
        round=args.round,
        max_per_group=args.max_per_group,
    )


def _groups(path: str) -> dict[str, str]:
    from gandt.tables.files import read_rows

    return {row.required("image"): row.required("group") for row in read_rows(path, ("group", "image"))}


def _row(pick: Pick) -> Mapping[str, Any]:
    return {
        "image": pick.image_id,
        "rank": pick.rank,
        "score": pick.score,
        "reason": pick.reason,
        "arm": str(pick.arm),
        "inclusion_probability": pick.inclusion_probability,
        "pool_size": pick.pool_size,
        "round": pick.round,
        "predicted_label": pick.predicted_label,
        "predicted_probability": round(pick.predicted_probability, 6) if pick.predicted_label else None,
        "group": pick.group_id,
    }
