# SPDX-License-Identifier: GPL-3.0-or-later
"""The project's side of verbs that also work on plain files: embed, select, aggregate."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gandt.cli import exit_codes, steps
from gandt.cli.context import Context
from gandt.cli.file_flags import refuse_file_flags
from gandt.cli.paths import shown_path
from gandt.domain.errors import GandtError, NotFound
from gandt.tables.files import write_rows
from gandt.tables.formats import PICK_COLUMNS

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.labeling.campaigns import Campaign
    from gandt.domain.labeling.rounds import Pick, Round


def run_project_embed(args: argparse.Namespace, ctx: Context) -> int:
    """`gandt embed` without files: CreateEmbeddingJob for the catalog."""
    ctx.require_project()
    ctx.hold_project()
    job = steps.embed(ctx, ctx.connect("jobcontroller"))
    if not job.total:
        raise GandtError("every image of the catalog has its vector", reason="NOTHING_TO_DO")
    values = {"model_id": job.model_id, "collection": job.collection, "embedded": job.embedded, "failed": job.failed}
    ctx.out.summary(values, "next: gandt seed labeled.csv")
    return exit_codes.PARTIAL if job.failed else exit_codes.DONE


def run_project_select(args: argparse.Namespace, ctx: Context) -> int:
    """`gandt select` without files: CreateRound of the project's campaign, made from gandt.toml when there is none."""
    refuse_file_flags(args, "select", ("count", "strategy", "output"), "name --vectors, or set it in gandt.toml")
    ctx.require_project()
    ctx.hold_project()
    client = ctx.connect("jobcontroller")
    campaign = open_campaign(ctx, client)
    created = client.create_round(campaign.campaign_id, count=args.count or 0, strategy=args.strategy or "")
    for warning in created.warnings:
        ctx.out.warn(warning)
    names = [shown_path(p.image_id, p.uris) for p in created.picks]
    if args.output:
        write_rows(
            args.output, PICK_COLUMNS, (_pick_row(n, p, created) for n, p in zip(names, created.picks, strict=True))
        )
    else:
        cells = [(p.rank, n, p.arm, p.score, p.reason) for n, p in zip(names, created.picks, strict=True)]
        ctx.out.table(("rank", "image", "arm", "score", "reason"), cells)
    ctx.out.summary(
        {
            "round_id": created.round_id,
            "round": created.number,
            "images": created.images,
            "strategy": created.strategy,
            "picks": [_pick_row(n, p, created) for n, p in zip(names, created.picks, strict=True)],
        },
        f"round {created.number}: {created.images} images by {created.strategy}; next: gandt quote, gandt launch",
    )
    return exit_codes.DONE


def _pick_row(name: str, pick: Pick, created: Round) -> dict[str, object]:
    return {
        "image": name,
        "rank": pick.rank,
        "score": pick.score,
        "reason": pick.reason,
        "arm": pick.arm,
        "inclusion_probability": pick.inclusion_probability,
        "pool_size": pick.pool_size,
        "round": created.number,
    }


def run_project_aggregate(args: argparse.Namespace, ctx: Context) -> int:
    """`gandt aggregate` without files: AggregateRound of the newest round."""
    refuse_file_flags(args, "aggregate", (), "name an answers table, or set it in gandt.toml")
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


def open_campaign(ctx: Context, client: JobControllerClient) -> Campaign:
    """The campaign under way, or a new one for single steps made from the configuration."""
    from gandt.cli.campaign_flags import spec_from

    try:
        newest = client.get_campaign("")
        if not newest.state.is_final:
            return newest
    except NotFound:
        pass
    blank = {"classes": None, "target": None}
    return client.create_campaign(spec_from(argparse.Namespace(**blank), ctx), manual=True)
