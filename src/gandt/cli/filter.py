# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides for every image of a vectors file whether to keep it, to discard it, or that it cannot be judged.

  gandt filter --labeled labeled.csv --vectors vectors.parquet --discard 0.5 -o decisions.csv
  gandt filter --labeled labeled.csv --vectors vectors.parquet --max-loss 0.05 -o decisions.csv
  gandt filter --labeled labeled.csv --vectors vectors.parquet --compat --min-discard 0.1 -o decisions.csv

Every image with a vector that is not labeled comes out once, with its trimmed mean distance to each label. --compat
follows the original's rule, count for count.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import GandtError, InvalidInput

if TYPE_CHECKING:
    from gandt.client.selection import FilterStream
    from gandt.domain.selection.records import DecisionBlock, FilterSpec, FilterSummary
    from gandt.domain.vectors import VectorSet

MIN_DISCARD = 0.1
# What the original dies of or loses every image by: the data's fault and not the command line's.
_COMPAT_REASONS = {"OTHER_LABEL_MISSING", "NO_WANTED_LABEL"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's flags."""
    parser.add_argument("--labeled", required=True, metavar="FILE", help="table with image,label")
    parser.add_argument("--vectors", required=True, metavar="FILE", help="vectors.parquet, as gandt embed writes")
    parser.add_argument("--other-label", default="Other", metavar="LABEL", help="none of these (default: Other)")
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        metavar="LABEL",
        help="wanted label, may repeat; else all but the other",
    )
    parser.add_argument("--discard", type=float, metavar="SHARE", help="discard exactly this share, 0 to 1")
    parser.add_argument(
        "--max-loss", type=float, metavar="SHARE", help="discard as much as loses at most this share of wanted images"
    )
    parser.add_argument("--compat", action="store_true", help="the original's rule, count for count")
    parser.add_argument(
        "--min-discard", type=float, metavar="SHARE", help="with --compat: discard at least this share (default: 0.1)"
    )
    parser.add_argument(
        "--audit", type=int, default=0, dest="audit_count", metavar="N", help="draw N discarded images for a look"
    )
    parser.add_argument("--audit-out", metavar="FILE", help="table of the images of --audit; default: in the summary")
    parser.add_argument("-o", "--output", metavar="FILE", help="decisions table; default stdout")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Writes the decisions."""
    from gandt.tables.files import write_rows
    from gandt.tables.formats import DECISION_COLUMNS
    from gandt.tables.labels import read_labeled

    _check(args)
    labeled = read_labeled(args.labeled)
    # The distance columns are the labels in order; the service names the same ones at the end.
    labels = sorted({label for image in labeled for label in image.labels})
    dim, vectors = open_vectors(args.vectors)
    stream = ctx.connect("selection").filter(
        _spec(args, ctx.seed, dim),
        labeled,
        vectors=vectors,
        on_progress=lambda p: ctx.out.progress(p.stage, p.done, p.total),
    )
    output = args.output or ("" if args.json else "-")
    rows = _rows(stream, labels, args.other_label)
    try:
        if output:
            write_rows(output, (*DECISION_COLUMNS, *map(_column, labels)), rows)
        else:
            for _ in rows:
                pass
    except InvalidInput as error:
        if not args.compat or error.reason not in _COMPAT_REASONS:
            raise
        ctx.out.error(error)
        return exit_codes.FAILED
    if args.audit_out:
        write_rows(args.audit_out, ("image",), ({"image": image} for image in stream.summary.audit_ids))
    return _finish(args, ctx, stream.summary, output)


def open_vectors(path: str) -> tuple[int, Iterable[VectorSet]]:
    """Numbers in a vector, and the blocks of a vectors file.

    Raises:
        GandtError: NOTHING_TO_DO when the file holds no vectors; else as `iter_vectors`.
    """
    from gandt.tables.vectors import iter_vectors

    blocks = iter_vectors(path)
    first = next(blocks, None)
    if first is None or not len(first):
        raise GandtError(f"{path} holds no vectors", reason="NOTHING_TO_DO", fix="embed some images first")
    return first.dim, itertools.chain([first], blocks)


def _check(args: argparse.Namespace) -> None:
    rules = [args.discard is not None, args.max_loss is not None, args.compat]
    if sum(rules) != 1:
        raise InvalidInput(
            "give exactly one of --discard SHARE, --max-loss SHARE and --compat", field="rule", reason="USAGE"
        )
    if args.min_discard is not None and not args.compat:
        raise InvalidInput(
            "--min-discard belongs to --compat", field="min_discard", reason="USAGE", fix="use --discard"
        )
    if args.json and args.output == "-":
        raise InvalidInput("--json and -o - both want stdout", reason="USAGE", fix="name a file with -o")
    if args.audit_count < 0:
        raise InvalidInput(f"--audit is {args.audit_count}, it must not be negative", field="audit", reason="USAGE")
    if args.audit_out and not args.audit_count:
        raise InvalidInput("--audit-out needs --audit", field="audit", reason="USAGE", fix="add --audit N")


def _spec(args: argparse.Namespace, seed: int, dim: int) -> FilterSpec:
    from gandt.domain.selection.records import FilterSpec, PoolSource

    least = MIN_DISCARD if args.min_discard is None else args.min_discard
    return FilterSpec(
        pool=PoolSource(inline_dim=dim),
        other_label=args.other_label,
        discard_share=args.discard,
        max_loss_share=args.max_loss,
        min_proportion=least if args.compat else None,
        target_labels=tuple(args.target),
        audit=args.audit_count,
        seed=seed,
    )


def _rows(stream: FilterStream, labels: list[str], other: str) -> Iterator[Mapping[str, Any]]:
    for block in stream:
        yield from _block_rows(block, labels, other)


def _block_rows(block: DecisionBlock, labels: list[str], other: str) -> Iterator[Mapping[str, Any]]:
    columns = [_column(label) for label in labels]
    to_other = labels.index(other) if other in labels else -1
    for image, decision, farther, distances in zip(
        block.image_ids, block.decisions, block.farther.tolist(), block.distances.tolist(), strict=True
    ):
        known = to_other >= 0 and distances[to_other] == distances[to_other]  # NaN is not equal to itself
        row = {"image": image, "decision": str(decision), "farther_than_other": farther if known else None}
        yield {**row, **dict(zip(columns, distances, strict=True))}


def _column(label: str) -> str:
    """Name of a label's distance column; a label may be called like one of the other columns."""
    from gandt.tables.formats import DECISION_COLUMNS

    return f"distance_{label}" if label in DECISION_COLUMNS else label


def _report_audit(args: argparse.Namespace, ctx: Context, summary: FilterSummary) -> None:
    if not summary.audit_ids:
        return
    count = len(summary.audit_ids)
    where = f"listed in {args.audit_out}" if args.audit_out else f"to look at: {', '.join(summary.audit_ids)}"
    ctx.out.note(f"{count} of {summary.discarded:,} discarded images were drawn, {where}")
    ctx.out.note(f"if none of the {count} is wanted, at most {summary.audit_bound:.1%} of the discarded are (95 %)")


def _finish(args: argparse.Namespace, ctx: Context, summary: FilterSummary, output: str) -> int:
    images = summary.kept + summary.discarded + summary.undecided
    for warning in summary.warnings:
        ctx.out.warn(warning)
    lost = args.compat and images > 0 and summary.undecided == images
    ctx.out.summary(
        {
            "images": images,
            "kept": summary.kept,
            "discarded": summary.discarded,
            "undecided": summary.undecided,
            "threshold": summary.threshold if summary.threshold >= 0 else None,
            "estimated_loss": summary.estimated_loss if summary.estimated_loss >= 0 else None,
            "loss_bound": summary.loss_bound if summary.loss_bound >= 0 else None,
            "labels": list(summary.labels),
            "audit": list(summary.audit_ids),
            "audit_bound": summary.audit_bound if summary.audit_ids else None,
            "output": output or None,
        },
        f"{images:,} images: {summary.kept:,} kept, {summary.discarded:,} discarded, {summary.undecided:,} undecided",
    )
    _report_audit(args, ctx, summary)
    if not images:
        ctx.out.note(f"every image of {args.vectors} is labeled")
        return exit_codes.NOTHING
    if lost:
        ctx.out.error(
            GandtError(
                f"no threshold discards {args.min_discard if args.min_discard is not None else MIN_DISCARD:g} of the "
                "images; the original returns two empty lists here",
                reason="NO_THRESHOLD",
                fix="ask for less with --min-discard, or use --discard SHARE",
            )
        )
        return exit_codes.FAILED
    return exit_codes.PARTIAL if summary.undecided else exit_codes.DONE
