# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays a finished project to compare strategies: how many labels would each have needed?

  gandt evaluate                                            the project's labels and wanted labels as they are
  gandt evaluate --truth truth.csv --strategy find-more --strategy random

Every strategy starts from the same few known images, picks batch after batch, and is told the labels that the project
has. Images without a label are left out: nobody can say what they would have been.
"""

from __future__ import annotations

import argparse
from statistics import mean
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import GandtError, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.datasets import LabeledImage
    from gandt.domain.progress import Progress
    from gandt.domain.selection.records import EvaluateRun


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")
    parser.add_argument("--truth", metavar="FILE", help="true labels, image,label (default: the project's labels)")
    parser.add_argument("--strategy", metavar="NAME", action="append", help="compare this one (default: all that fit)")
    parser.add_argument("--target", metavar="LABEL", action="append", help="label to find (default: the campaign's)")
    parser.add_argument("--batch-size", type=int, default=20, metavar="N", help="images a round (default: 20)")
    parser.add_argument("--positives", type=int, default=5, metavar="N", help="wanted images known at the start")
    parser.add_argument("--others", type=int, default=20, metavar="N", help="other images known at the start")
    parser.add_argument("--recall", type=float, default=0.8, metavar="SHARE", help="share to be found (default: 0.8)")
    parser.add_argument("--repetitions", type=int, default=5, metavar="N", help="other starts (default: 5)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.pool_map import collection_in_use
    from gandt.domain.selection.records import EvaluateSpec, PoolSource

    for name in ("batch_size", "positives", "others", "repetitions"):
        if getattr(args, name) < 1:
            raise InvalidInput(f"--{name.replace('_', '-')} must be 1 or more", field=name, reason="OUT_OF_RANGE")
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    campaign = client.get_campaign(args.campaign)
    targets = tuple(args.target or campaign.spec.target_labels)
    labeled = _labeled(client, campaign.campaign_id, args.truth, campaign.spec.other_label)
    if not labeled:
        raise GandtError("no image is labeled yet", reason="NOTHING_TO_DO", fix="run the campaign, or give --truth")
    collection = collection_in_use(ctx.connect("vectorsearch"))
    if collection is None:
        raise NotFound("there is no collection of vectors", kind="collection", id="", fix="embed the images first")
    spec = EvaluateSpec(
        pool=PoolSource(collection=collection.name, model_id=collection.model_id),
        strategies=tuple(args.strategy or ()),
        target_labels=targets,
        other_label=campaign.spec.other_label,
        batch_size=args.batch_size,
        initial_positives=args.positives,
        initial_others=args.others,
        recall_target=args.recall,
        repetitions=args.repetitions,
        seed=ctx.seed,
    )

    def on_progress(progress: Progress) -> None:
        if progress.total:
            ctx.out.progress(progress.stage, progress.done, progress.total)

    rows = compared(list(ctx.connect("selection").evaluate(spec, labeled, on_progress=on_progress)))
    ctx.out.clear()
    ctx.out.table(
        ("strategy", "labels to target", "reached", "times fewer than random"),
        [(r["strategy"], _number(r["labels"]), f"{r['reached']} of {r['runs']}", _number(r["ratio"], 1)) for r in rows],
    )
    best = rows[0]
    words = f"{len(labeled):,} labeled images replayed; {best['strategy']} needs the fewest labels"
    if best["ratio"] is not None and best["strategy"] != "random":
        words += f": {_number(best['labels'])} to find {args.recall:.0%}, {best['ratio']:.1f} times fewer than random"
    ctx.out.summary({"images": len(labeled), "target_labels": list(targets), "strategies": rows}, words)
    return exit_codes.DONE


def _labeled(client: JobControllerClient, campaign_id: str, truth: str | None, other_label: str) -> list[LabeledImage]:
    """What is known of the catalog's images: the truth that was given, or the campaign's labels and its seeds."""
    from gandt.cli.truth import truth_by_id
    from gandt.domain.datasets import LabeledImage, LabelStatus

    if truth:
        return [LabeledImage(image, labels) for image, labels in sorted(truth_by_id(client, truth).items()) if labels]
    none_of_these = (other_label,) if other_label else ()
    trusted = (LabelStatus.CERTAIN, LabelStatus.UNCERTAIN)
    return [
        LabeledImage(label.image_id, label.labels or none_of_these)
        for label in client.list_labels(campaign_id, include_seeds=True)
        if label.status in trusted and (label.labels or none_of_these)
    ]


def compared(runs: Sequence[EvaluateRun]) -> list[dict[str, Any]]:
    """A row a strategy, the fewest labels first; strategies that missed the target in some run come after the others.

    `labels` and `ratio` are None where no run reached the target, or not every one: a mean over the lucky runs alone
    would flatter.
    """
    by_name: dict[str, list[EvaluateRun]] = {}
    for one in runs:
        by_name.setdefault(one.strategy, []).append(one)
    random = _mean_labels(by_name.get("random", []))
    rows = []
    for name, own in by_name.items():
        labels = _mean_labels(own)
        rows.append(
            {
                "strategy": name,
                "labels": labels,
                "runs": len(own),
                "reached": sum(bool(one.labels_to_target) for one in own),
                "ratio": random / labels if random and labels else None,
                "curves": [[list(one.labels_by_round), list(one.found_by_round)] for one in own],
            }
        )
    return sorted(rows, key=lambda row: (row["labels"] is None, row["labels"] or 0.0, row["strategy"]))


def _mean_labels(runs: Sequence[EvaluateRun]) -> float | None:
    return mean(one.labels_to_target for one in runs) if runs and all(one.labels_to_target for one in runs) else None


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
