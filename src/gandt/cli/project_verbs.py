# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's side of verbs that also work on plain files: embed, select, aggregate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gandt.cli import exit_codes, steps
from gandt.cli.context import Context
from gandt.domain.errors import GandtError, NotFound

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.labeling.campaigns import Campaign


def run_project_embed(args: argparse.Namespace, ctx: Context) -> int:
    """`gandt embed` without files: CreateEmbeddingJob for the catalog."""
    ctx.require_project()
    job = steps.embed(ctx, ctx.connect("jobcontroller"))
    if not job.total:
        raise GandtError("every image of the catalog has its vector", reason="NOTHING_TO_DO")
    values = {"model_id": job.model_id, "collection": job.collection, "embedded": job.embedded, "failed": job.failed}
    ctx.out.summary(values, "next: gandt seed labeled.csv")
    return exit_codes.PARTIAL if job.failed else exit_codes.DONE


def run_project_select(args: argparse.Namespace, ctx: Context) -> int:
    """`gandt select` without files: CreateRound of the project's campaign, made from gandt.toml when there is none."""
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    campaign = open_campaign(args, ctx, client)
    created = client.create_round(campaign.campaign_id, count=args.count or 0, strategy=args.strategy or "")
    for warning in created.warnings:
        ctx.out.warn(warning)
    ctx.out.table(
        ("rank", "image", "arm", "score", "reason"),
        [(p.rank, p.uris[0] if p.uris else p.image_id, p.arm, p.score, p.reason) for p in created.picks],
    )
    ctx.out.summary(
        {
            "round_id": created.round_id,
            "round": created.number,
            "images": created.images,
            "strategy": created.strategy,
            "picks": [{"image": p.image_id, "rank": p.rank, "score": p.score, "arm": p.arm} for p in created.picks],
        },
        f"round {created.number}: {created.images} images by {created.strategy}; next: gandt quote, gandt launch",
    )
    return exit_codes.DONE


def run_project_aggregate(args: argparse.Namespace, ctx: Context) -> int:
    """`gandt aggregate` without files: AggregateRound of the newest round."""
    ctx.require_project()
    report = ctx.connect("jobcontroller").aggregate_round("")
    for warning in report.warnings:
        ctx.out.warn(warning)
    done, counted = report.round, f"{report.certain} of {report.round.images} labels are certain by {report.method}"
    step = "launch" if report.need_answers else "export"
    ctx.out.summary(
        {
            "round": done.number,
            "method": report.method,
            "images": done.images,
            "certain": report.certain,
            "need_answers": report.need_answers,
        },
        f"round {done.number}: {counted}, {report.need_answers} images may get another answer; next: gandt {step}",
    )
    return exit_codes.DONE


def open_campaign(args: argparse.Namespace, ctx: Context, client: JobControllerClient) -> Campaign:
    """The newest campaign, or a new one for single steps made from the configuration."""
    from gandt.cli.campaign_flags import spec_from

    try:
        return client.get_campaign("")
    except NotFound:
        blank = {"classes": None, "target": None}
        spec = spec_from(argparse.Namespace(**blank), ctx)
        return client.create_campaign(spec, manual=True)
