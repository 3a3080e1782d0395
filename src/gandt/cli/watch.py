# SPDX-License-Identifier: GPL-3.0-or-later
"""Follows a campaign until it ends: a line for each change."""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes, steps
from gandt.cli.context import Context
from gandt.cli.status import line_of, values_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    campaign = steps.follow(client, args.campaign, lambda now, _: ctx.out.note(line_of(now)))
    ctx.out.summary(values_of(campaign), line_of(campaign))
    if campaign.state == "failed":
        return exit_codes.FAILED
    return exit_codes.DONE if campaign.state.is_final else exit_codes.WAITING
