# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts a labeling job for the newest round; the money is reserved first.

People need a server that keeps running: start `gandt serve` in the project, or use --truth with simulated workers.
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.output import usd
from gandt.domain.errors import GandtError

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--round", default="", metavar="ID", help="round (default: the newest)")
    parser.add_argument("--truth", metavar="FILE", help="simulated workers answer, knowing this table image,label")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    quote, _, _ = client.quote_round(args.round)
    if args.dry_run:
        ctx.out.summary({"dry_run": True, "max_cost_usd": quote.max_cost / 1e6}, f"would reserve {usd(quote.max_cost)}")
        return exit_codes.DONE
    if quote.max_cost and not args.yes:
        raise GandtError(
            f"this may cost up to {usd(quote.max_cost)}",
            reason="NEEDS_YES",
            fix="run it again with --yes to spend it",
        )
    if not args.truth and ctx.labels_here() and not ctx.has_server():
        raise GandtError(
            "nobody could label: the page would close with this command",
            reason="NEEDS_SERVER",
            fix="start gandt serve in this project and run the command again",
        )
    job = client.create_labeling_job(args.round)
    link = ctx.invite()[1] if job.work_url and not args.truth else job.work_url
    values = {"job_name": job.job_name, "pages": job.pages, "images": job.images, "work_url": link}
    if args.truth:
        from gandt.cli.simulated import simulate_until
        from gandt.domain.labeling.jobs import JobState

        answered = (JobState.COLLECTING, JobState.SETTLED, JobState.REFUSED)
        simulate_until(ctx, client, args.truth, lambda: client.get_labeling_job(job.job_name).state in answered)
        ctx.out.summary(values, f"{job.job_name} is labeled by simulated workers; next: gandt collect")
        return exit_codes.DONE
    where = f"label at {link}" if link else "people label where the backend asks them"
    ctx.out.summary(values, f"{job.job_name}: {job.images} images on {job.pages} pages; {where}")
    return exit_codes.WAITING
