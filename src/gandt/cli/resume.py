# SPDX-License-Identifier: GPL-3.0-or-later
"""Resumes a paused campaign."""

from __future__ import annotations

import argparse

from gandt.cli.context import Context
from gandt.cli.pausing import configure, set_paused

__all__ = ["configure", "run"]


def run(args: argparse.Namespace, ctx: Context) -> int:
    return set_paused(args, ctx, paused=False)
