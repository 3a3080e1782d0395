# SPDX-License-Identifier: GPL-3.0-or-later
"""Resumes a paused campaign."""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    campaign = client.update_campaign(client.get_campaign(args.campaign).campaign_id, paused=False)
    values = {"campaign_id": campaign.campaign_id, "state": str(campaign.state)}
    ctx.out.summary(values, f"campaign {campaign.spec.name} is {campaign.state}")
    return exit_codes.DONE
