# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads images into the project's catalog: each file once, by content; reading again adds only what is new.

gandt ingest photos              a folder with all below it; it is read in place, not copied
gandt ingest s3://bucket/photos/
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes, steps
from gandt.cli.context import Context


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="*", metavar="DIR", help="folders or s3:// URIs (default: project.images)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    sources = steps.image_sources(ctx, args.sources)
    ctx.require_project()
    ctx.hold_project()
    client = ctx.connect("jobcontroller")
    code = steps.ingest(ctx, client, sources)
    ctx.out.summary({"sources": sources, "images": client.count_images()}, "next: gandt embed")
    return code if code else exit_codes.DONE
