# SPDX-License-Identifier: GPL-3.0-or-later
"""Rehearses a campaign with simulated workers, to see cost, time and accuracy before any money is spent.

  gandt simulate photos --classes owl,hawk --target owl --seed-labels labeled.csv --budget 50 --price-per-page 0.036
  gandt simulate photos ... --truth truth.csv          when the true labels are known

The whole campaign runs several times, each time in a copy of the project that is thrown away, with other simulated
workers, who label over the same HTTP path as people do and need no time. What differs from run to run becomes a
range. Only the reading and embedding of images stays in the project.

Without --truth the true labels are supposed from the known ones, with --share as the share of wanted images. Such a
rehearsal is optimistic about finding: the wanted images that it supposes look like the known ones.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gandt.cli import exit_codes
from gandt.cli.campaign_flags import add_flags, ensure_project, spec_from
from gandt.cli.context import Context
from gandt.cli.output import Output, usd
from gandt.cli.service_sections import load_section
from gandt.domain.errors import GandtError, InvalidInput, NotFound, WrongState

if TYPE_CHECKING:
    from gandt.cli.loop import LoopResult
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.labeling.campaigns import CampaignSpec
    from gandt.domain.labeling.simulated_worker import SimWorker

Truth = Mapping[str, tuple[str, ...]]
# settings that would lead a copy out of its folder
ELSEWHERE = {"data_dir", "database_url", "milvus_uri", "objects", "bucket", "backend", "s3_endpoint_url"}
SECTIONS = ("jobcontroller", "labeling", "vectorsearch")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="DIR", help="folders of images (default: project.images)")
    parser.add_argument("--seed-labels", metavar="FILE", help="known labels to start from: image,label")
    parser.add_argument("--truth", metavar="FILE", help="all true labels: image,label")
    parser.add_argument(
        "--share", type=float, default=0.05, metavar="P", help="without --truth: share of wanted images (default: 0.05)"
    )
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="campaigns to run (default: 5)")
    parser.add_argument("--workers", type=int, default=8, metavar="N", help="workers of the team (default: 8)")
    parser.add_argument(
        "--accuracy", type=float, default=0.9, metavar="P", help="how often an honest worker is right (default: 0.9)"
    )
    parser.add_argument("--spammers", type=int, default=0, metavar="N", help="of them do not look (default: 0)")
    parser.add_argument(
        "--seconds-per-image", type=float, default=2.0, metavar="S", help="time of a worker on a tile (default: 2)"
    )
    add_flags(parser)


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """One simulated campaign. Shares are in [0, 1], money in millionths of a US dollar, time in seconds.

    Attributes:
        work_seconds: time of all workers together.
        elapsed_seconds: time of the busiest worker: how long it takes when all work at once.
    """

    rounds: int
    labels: int
    answers: int
    cost_usd_micros: int
    label_accuracy: float | None
    targets_found: int
    recall: float | None
    work_seconds: float
    elapsed_seconds: float
    ended: str


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.steps import image_sources

    _check(args)
    _only_here(ctx)
    sources = image_sources(ctx, args.images)
    spec = spec_from(args, ctx)
    ensure_project(ctx.project_dir)
    truths = _prepare(args, ctx, sources, spec)
    rehearsals = []
    for number in range(args.repeats):
        ctx.out.progress("simulated campaigns", number, args.repeats)
        rehearsals.append(_rehearse(args, ctx, sources, spec, truths(number), number))
    ctx.out.clear()
    ranges = {name: _range(rehearsals, name) for name in _SHOWN}
    rows = [(text, *map(show, found)) for name, (text, show) in _SHOWN.items() if (found := ranges[name])]
    ctx.out.table(("forecast", "least", "median", "most"), rows)
    ended = sorted({rehearsal.ended for rehearsal in rehearsals if rehearsal.ended})
    values = {
        "repeats": args.repeats,
        "supposed_share": None if args.truth else args.share,
        "ranges": {
            name: dict(zip(("least", "median", "most"), found, strict=True)) if found else None
            for name, found in ranges.items()
        },
        "ended": ended,
    }
    basis = "known true labels" if args.truth else f"supposed true labels, {args.share:.1%} of the images wanted"
    why = "; ".join(ended) or "everything is labeled"
    ctx.out.summary(values, f"{args.repeats} simulated campaigns with {basis}; they ended: {why}; nothing was spent")
    return exit_codes.DONE


def _check(args: argparse.Namespace) -> None:
    at_least = {"repeats": 1, "workers": 1, "spammers": 0}
    for name, least in at_least.items():
        if getattr(args, name) < least:
            raise InvalidInput(
                f"--{name} is {getattr(args, name)}, it must be at least {least}", field=name, reason="USAGE"
            )
    if args.spammers > args.workers:
        raise InvalidInput(
            f"--spammers is {args.spammers}, but there are {args.workers} workers", field="spammers", reason="USAGE"
        )
    for name in ("share", "accuracy"):
        if not 0 < getattr(args, name) < 1 and not (name == "accuracy" and args.accuracy == 1):
            raise InvalidInput(f"--{name} is {getattr(args, name)}, it must be a share", field=name, reason="USAGE")
    if not 0 < args.seconds_per_image < 3600:
        raise InvalidInput(
            f"--seconds-per-image is {args.seconds_per_image}", field="seconds_per_image", reason="USAGE"
        )


def _only_here(ctx: Context) -> None:
    """Refuse a project whose state is not in its folder alone: a copy of it would write to the real store.

    Raises:
        WrongState: it is served now, or its services or data are elsewhere.
    """
    endpoints = [str(value) for value in ctx.config.section("endpoints").values()]
    outside = [
        f"{section}.{key}"
        for section in SECTIONS
        for key in sorted(load_section(ctx.config, section).model_fields_set & ELSEWHERE)
    ]
    if ctx.endpoint or any(endpoints) or outside:
        raise WrongState(
            "a campaign can be rehearsed only where everything lies in the project's folder"
            + (f"; {', '.join(outside)} leads elsewhere" if outside else ", not on services elsewhere"),
            kind="project",
            id=str(ctx.project_dir),
            reason="STATE_ELSEWHERE",
            fix="rehearse in another folder, with --project, on the same images",
        )
    if ctx.has_server():
        raise WrongState(
            f"{ctx.project_dir} is being served", kind="project", id=str(ctx.project_dir), reason="IN_USE",
            fix="stop gandt serve, then rehearse",
        )  # fmt: skip


def _prepare(
    args: argparse.Namespace, ctx: Context, sources: Sequence[str], spec: CampaignSpec
) -> Callable[[int], Truth]:
    """Reads and embeds the images, and gives the truth of each repeat. All services have stopped when it returns."""
    from gandt.cli import steps
    from gandt.cli.truth import truth_by_id

    with Context(ctx.project_dir, ctx.out, ctx.config, ctx.seed, "") as here:
        here.hold_project()
        client = here.connect("jobcontroller")
        steps.ingest(here, client, sources)
        job = steps.embed(here, client)
        if args.truth:
            truth = truth_by_id(client, args.truth)
            if not truth:
                raise InvalidInput(
                    f"{args.truth} names no image of the catalog", field="truth", reason="NO_TRUTH",
                    fix="name images by their path below the folder",
                )  # fmt: skip
            return lambda _: truth
        import numpy as np

        from gandt.domain.selection.supposed_truth import suppose_truth

        known = _known(client, args.seed_labels)
        try:
            blocks = list(here.connect("vectorsearch").scan(job.collection))
        except NotFound:  # a collection is made for the first vector
            blocks = []
        if not blocks:
            raise GandtError("no image has a vector", reason="NOTHING_TO_DO", fix="see what gandt embed says of them")
        ids = [image for block in blocks for image in block.ids]
        matrix = np.concatenate([block.matrix for block in blocks])
    return lambda number: suppose_truth(ids, matrix, known, spec.target_labels, args.share, ctx.seed + number)


def _known(client: JobControllerClient, seed_labels: str | None) -> Truth:
    """Labels by image id: those of the newest campaign, and those of the file."""
    from gandt.cli.truth import truth_by_id

    known: dict[str, tuple[str, ...]] = {}
    try:
        campaign = client.get_campaign("").campaign_id
    except NotFound:
        pass
    else:
        known = {label.image_id: label.labels for label in client.list_labels(campaign, include_seeds=True)}
    return known | (truth_by_id(client, seed_labels) if seed_labels else {})


def _rehearse(
    args: argparse.Namespace, ctx: Context, sources: Sequence[str], spec: CampaignSpec, truth: Truth, number: int
) -> Rehearsal:
    """One campaign in a copy of the project."""
    from gandt.cli.loop import Loop, run_loop

    with tempfile.TemporaryDirectory(prefix="gandt-simulate-") as scratch:
        folder = Path(scratch)
        left_out = shutil.ignore_patterns("*.lock", "LOCK", "serve.json", ".tmp")
        shutil.copytree(ctx.state_dir, folder / ".gandt", ignore=left_out)
        quiet = Output()
        quiet.configure(quiet=True, verbose=False, progress=False)
        with Context(folder, quiet, ctx.config, ctx.seed, "") as copy:
            result = run_loop(
                copy,
                Loop(
                    sources=tuple(sources),
                    spec=spec,
                    seed_labels=args.seed_labels or "",
                    truth="",
                    open_browser=False,
                    begin_anew=True,
                    report=str(folder / "report.html"),
                    known=truth,
                    workers=_team(args, ctx.seed + number),
                ),
            )
    return _rehearsal(result)


def _team(args: argparse.Namespace, seed: int) -> tuple[SimWorker, ...]:
    from gandt.domain.labeling.simulated_worker import crew

    team = crew(args.workers, seed, args.accuracy, args.spammers)
    return tuple(replace(worker, median_seconds=args.seconds_per_image) for worker in team)


def _rehearsal(result: LoopResult) -> Rehearsal:
    if not result.work_seconds:
        raise GandtError(
            f"the project's campaign has ended and nothing would be labeled: {result.campaign.message}",
            reason="NOTHING_TO_DO",
            fix="rehearse in another folder with --project, or with a higher limit",
        )
    figures = result.figures
    right, in_pool = figures.targets_right, figures.targets_in_pool
    return Rehearsal(
        rounds=result.campaign.rounds,
        labels=figures.labels_bought,
        answers=figures.answers_bought,
        cost_usd_micros=figures.cost_usd_micros,
        label_accuracy=figures.label_accuracy,
        targets_found=figures.targets_found,
        recall=right / in_pool if right is not None and in_pool else None,
        work_seconds=sum(result.work_seconds.values()),
        elapsed_seconds=max(result.work_seconds.values(), default=0.0),
        ended=re.sub(r" \([^)]*\)", "", result.campaign.message.split(";")[0]),  # without the figures of one run
    )


def _range(rehearsals: Sequence[Rehearsal], name: str) -> tuple[Any, Any, Any] | None:
    """Least, median (the lower of two) and most; None when no campaign has the figure."""
    found = sorted(value for r in rehearsals if (value := getattr(r, name)) is not None)
    return (found[0], found[(len(found) - 1) // 2], found[-1]) if found else None


def _count(value: int) -> str:
    return f"{value:,}"


def _share(value: float) -> str:
    return f"{value:.1%}"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"


_SHOWN: dict[str, tuple[str, Callable[[Any], str]]] = {
    "rounds": ("rounds", _count),
    "labels": ("labels", _count),
    "answers": ("answers", _count),
    "cost_usd_micros": ("cost", usd),
    "label_accuracy": ("right labels", _share),
    "targets_found": ("wanted images found", _count),
    "recall": ("of the wanted images", _share),
    "work_seconds": ("working time of all", _hours),
    "elapsed_seconds": ("time when all work at once", _hours),
}
