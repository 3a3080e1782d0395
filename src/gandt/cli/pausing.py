# SPDX-License-Identifier: GPL-3.0-or-later
"""What `gandt pause` and `gandt resume` have in common."""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    """The flags of both."""
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")


def set_paused(args: argparse.Namespace, ctx: Context, paused: bool) -> int:
    """Pauses or resumes a campaign and says how it is then."""
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    campaign = client.update_campaign(client.get_campaign(args.campaign).campaign_id, paused=paused)
    values = {"campaign_id": campaign.campaign_id, "state": str(campaign.state)}
    ctx.out.summary(values, f"campaign {campaign.spec.name} is {campaign.state}")
    return exit_codes.DONE
