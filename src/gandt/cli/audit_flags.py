# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags of an audit, the same for files (`gandt aggregate`) and projects (`gandt review`)."""

from __future__ import annotations

import argparse


def add_audit_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags."""
    group = parser.add_argument_group("audit of the certain labels")
    group.add_argument("--audit-out", metavar="FILE", help="draw images for an expert to judge; prints the price")
    group.add_argument(
        "--audit-size", type=int, metavar="N", help="how many (default: the price if some labels are wrong)"
    )
    group.add_argument("--audit", metavar="FILE", help="the expert's judgments (image,label) of the drawn images")
    group.add_argument(
        "--audit-target", type=float, default=0.05, metavar="P", help="share of wrong labels to bound (default 0.05)"
    )
