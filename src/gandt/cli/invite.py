# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes a link for somebody who labels.

gandt invite                 the team's link: each browser that opens it is a new worker
gandt invite anna bert       one link for each name: always the same worker, on any device
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import WrongState

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's flags."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="whom each link is for; stored as a pseudonym only")


def run(args: argparse.Namespace, ctx: Context) -> int:
    """Prints the links."""
    ctx.require_project()
    if not ctx.labels_here():
        raise WrongState(
            "this project's labeling jobs are not in our labeling service, so there is nobody to invite here",
            kind="project",
            state="other backend",
            reason="OTHER_BACKEND",
            fix="invite people in the console of the backend that asks them",
        )
    if not ctx.has_server() and not ctx.config.get("endpoints", "labeling"):
        raise WrongState(
            "a link works only while the labeling service runs",
            kind="service",
            id="labeling",
            state="not running",
            reason="NEEDS_SERVER",
            fix="run `gandt serve` in another terminal, and then this again",
        )
    if args.dry_run:
        ctx.out.summary({"dry_run": True, "names": args.names}, f"would make {len(args.names) or 1} links")
        return exit_codes.DONE
    made = [(name, ctx.invite(name)[1]) for name in args.names or [""]]
    ctx.out.table(("name", "link"), [[name or "team", link] for name, link in made])
    links = [{"name": name, "link": link} for name, link in made]
    ctx.out.summary({"invites": links}, "whoever has a link can label; it does not end by itself")
    return exit_codes.DONE
