# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows where the project stands: catalog, campaign, rounds, jobs and money."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.output import usd
from gandt.domain.errors import NotFound

if TYPE_CHECKING:
    from gandt.domain.labeling.campaigns import Campaign


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    images = client.count_images()
    try:
        campaign = client.get_campaign(args.campaign)
    except NotFound:
        if args.campaign:
            raise
        next_step = "gandt embed, then gandt run or gandt select" if images else "gandt ingest DIR"
        ctx.out.summary({"images": images, "campaign": None}, f"{images:,} images, no campaign yet; next: {next_step}")
        return exit_codes.DONE
    rounds = list(client.list_rounds(campaign.campaign_id))
    jobs = list(client.list_labeling_jobs(campaign_id=campaign.campaign_id))
    ctx.out.table(
        ("round", "state", "strategy", "images", "answers", "wanted", "cost"),
        [(r.number, str(r.state), r.strategy, r.images, r.answers, r.targets_found, usd(r.cost)) for r in rounds],
    )
    running = [job for job in jobs if not job.state.is_final]
    for job in running:
        where = f"; label at {job.work_url}" if job.work_url else ""
        ctx.out.note(f"{job.job_name} is {job.state}: {job.pages_labeled} of {job.pages} pages{where}")
    proof = client.get_proof(campaign.campaign_id)
    values = values_of(campaign) | {"rounds": len(rounds), "open_jobs": [j.job_name for j in running]}
    values["proof"] = None if proof is None else proof.to_json()
    line = line_of(campaign)
    # A campaign that has ended has said it in its message.
    if proof is not None and rounds and proof.sentence not in campaign.message:
        line = f"{line}\n{proof.sentence}; phase: {proof.phase}"
    ctx.out.summary(values, line)
    return exit_codes.DONE


def values_of(campaign: Campaign) -> dict[str, object]:
    """A campaign for --json."""
    return {
        "campaign_id": campaign.campaign_id,
        "name": campaign.spec.name,
        "state": str(campaign.state),
        "message": campaign.message,
        "images": campaign.images,
        "labeled": campaign.labeled,
        "answers": campaign.answers,
        "targets_found": campaign.targets_found,
        "budget_usd": campaign.money.budget / 1e6,
        "reserved_usd": campaign.money.reserved / 1e6,
        "spent_usd": campaign.money.spent / 1e6,
    }


def line_of(campaign: Campaign) -> str:
    """A campaign in one line."""
    money = campaign.money
    held = f" (and {usd(money.reserved)} reserved)" if money.reserved else ""
    message = f": {campaign.message}" if campaign.message else ""
    done = f"{campaign.labeled:,} of {campaign.images:,} images labeled with {campaign.answers:,} answers"
    cost = f"{usd(money.spent)} of {usd(money.budget)} spent{held}"
    return (
        f"campaign {campaign.spec.name} is {campaign.state}{message}; {done}, {campaign.targets_found:,} wanted; {cost}"
    )
