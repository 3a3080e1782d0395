# SPDX-License-Identifier: GPL-3.0-or-later
"""Explains an error by its reason: what it means, with which texts it comes, what to do next.

gandt explain IMAGE_NOT_EMBEDDED
"""

from __future__ import annotations

import argparse
import difflib
import inspect
import json
import sys
from importlib import resources

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain import errors
from gandt.domain.errors import NotFound

READS_CONFIGURATION = False  # a broken configuration is what it may have to explain


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reason", metavar="REASON", help="as printed in an error, e.g. COLUMN_MISSING")


def run(args: argparse.Namespace, ctx: Context) -> int:
    reasons = json.loads(resources.files("gandt.cli").joinpath("reasons.json").read_text(encoding="utf-8"))
    reason = args.reason.upper().replace("-", "_")
    if reason not in reasons:
        near = difflib.get_close_matches(reason, reasons, 3, 0.5)
        hint = f"did you mean {', '.join(near)}?" if near else "docs/reference/errors.md lists all reasons"
        raise NotFound(f"there is no reason {reason}", kind="reason", id=reason, reason="UNKNOWN_REASON", fix=hint)
    entry = reasons[reason]
    kinds = [getattr(errors, name) for name in entry["errors"]]
    meanings = [(inspect.getdoc(kind) or "").splitlines()[0] for kind in kinds]
    codes = sorted({exit_codes.exit_code(kind("", reason=reason)) for kind in kinds})
    if args.json:
        ctx.out.summary({"reason": reason, "meaning": meanings, "exit_codes": codes, **entry})
        return exit_codes.DONE
    lines = [reason, *(f"  {meaning}" for meaning in meanings), f"  exit status {', '.join(map(str, codes))}"]
    lines += ["", "it says one of", *(f"  {text}" for text in entry["texts"])] if entry["texts"] else []
    lines += ["", "what to do", *(f"  {fix}" for fix in entry["fixes"])] if entry["fixes"] else []
    sys.stdout.write("\n".join(lines) + "\n")
    return exit_codes.DONE
