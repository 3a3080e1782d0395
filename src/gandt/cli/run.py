# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the whole loop on a folder of images: ingest, embed, select, label, aggregate, until it stops by itself.

  gandt run photos --classes owl,hawk --target owl --seed-labels labeled.csv --open
  gandt run photos --classes owl,hawk --target owl --seed-labels labeled.csv --truth truth.csv

With --truth simulated workers answer. Without it people label in the browser; the command waits for them, and the
same command goes on where it was. Running it again after an interruption loses and repeats nothing.
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.campaign_flags import add_flags, ensure_project, one_person, spec_from
from gandt.cli.context import Context
from gandt.domain.errors import InvalidInput


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="*", metavar="DIR", help="folders of images (default: project.images)")
    parser.add_argument("--seed-labels", metavar="FILE", help="known labels to start from: image,label")
    parser.add_argument("--truth", metavar="FILE", help="all true labels: simulated workers answer")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("-o", "--output", metavar="FILE", help="report (default: report.html in the project)")
    add_flags(parser)


def run(args: argparse.Namespace, ctx: Context) -> int:
    from gandt.cli.loop import Loop, run_loop

    sources = args.images or ctx.config.get("project", "images")
    if not sources:
        raise InvalidInput(
            "no folder of images was named", field="DIR", reason="USAGE", fix="gandt run DIR --classes a,b"
        )
    if not args.truth:
        one_person(args, ctx)
    spec = spec_from(args, ctx)
    ensure_project(ctx.project_dir)
    result = run_loop(
        ctx,
        Loop(
            sources=tuple(sources),
            spec=spec,
            seed_labels=args.seed_labels or "",
            truth=args.truth or "",
            open_browser=args.open,
            report=args.output or str(ctx.project_dir / "report.html"),
        ),
    )
    ctx.out.summary(result.to_json(), "\n".join(result.lines()))
    return result.exit_code or exit_codes.DONE
