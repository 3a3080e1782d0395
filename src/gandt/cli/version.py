# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints the version of gandt and of the Python that runs it."""

from __future__ import annotations

import argparse
import platform
import sys
from importlib.metadata import version

from gandt.cli import exit_codes
from gandt.cli.context import Context

READS_CONFIGURATION = False


def configure(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


def run(args: argparse.Namespace, ctx: Context) -> int:
    number = version("gandt")
    if args.json:
        ctx.out.summary({"version": number, "python": platform.python_version()})
    else:
        sys.stdout.write(f"gandt {number} (Python {platform.python_version()})\n")
    return exit_codes.DONE
