# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the whole loop on a folder of images: ingest, embed, select, label, aggregate, until it stops by itself.

  gandt run photos --classes owl,hawk --target owl --seed-labels labeled.csv --open
  gandt run photos --classes owl,hawk --target owl --seed-labels labeled.csv --truth truth.csv

With --truth simulated workers answer. Without it people label in the browser; the command waits for them, and the
same command goes on where it was. Running it again after an interruption loses and repeats nothing.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gandt.cli import exit_codes
from gandt.cli.campaign_flags import add_flags, ensure_project, one_person, spec_from
from gandt.cli.context import Context
from gandt.cli.output import usd

if TYPE_CHECKING:
    from gandt.domain.labeling.campaigns import CampaignSpec

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="DIR", help="folders of images (default: project.images)")
    parser.add_argument("--seed-labels", metavar="FILE", help="known labels to start from: image,label")
    parser.add_argument("--truth", metavar="FILE", help="all true labels: simulated workers answer")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("-o", "--output", metavar="FILE", help="report (default: report.html in the project)")
    add_flags(parser)


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.loop import Loop, run_loop
    from gandt.cli.steps import image_sources

    sources = image_sources(ctx, args.images)
    if not args.truth:
        one_person(args, ctx)
    spec = spec_from(args, ctx)
    if args.dry_run:
        return _dry_run(spec, sources, ctx)
    ensure_project(ctx.project_dir)
    result = run_loop(
        ctx,
        Loop(
            sources=tuple(sources),
            spec=spec,
            seed_labels=args.seed_labels or "",
            truth=args.truth or "",
            open_browser=args.open,
            begin_anew=args.yes,
            report=args.output or str(ctx.project_dir / "report.html"),
        ),
    )
    ctx.out.summary(result.to_json(), "\n".join(result.lines()))
    return result.exit_code or exit_codes.DONE


def _dry_run(spec: CampaignSpec, sources: list[str], ctx: Context) -> int:
    """Says what would be asked of people at most, by round."""
    from gandt.domain.labeling.money import quote

    worst = quote(spec.round_size, spec.workers_per_image, spec.max_workers_per_image, spec.group_size, spec.prices)
    ctx.out.summary(
        {
            "dry_run": True,
            "sources": sources,
            "classes": list(spec.space.classes),
            "target_labels": list(spec.target_labels),
            "round_size": spec.round_size,
            "max_answers_a_round": worst.max_answers,
            "max_cost_usd_a_round": worst.max_cost / 1e6,
            "budget_usd": spec.budget_usd_micros / 1e6,
        },
        f"would read {', '.join(sources)} and ask about {spec.round_size} images a round, at most {worst.max_answers} "
        f"answers for {usd(worst.max_cost)}, within a budget of {usd(spec.budget_usd_micros)}; nothing was done",
    )
    return exit_codes.DONE
