# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows how reliable workers are, or forgets one.

gandt workers                    a table
gandt workers forget ID --yes    the answers stay, under a new pseudonym
"""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.domain.errors import GandtError, InvalidInput
from gandt.tables.formats import WORKER_COLUMNS, WORKER_ESTIMATES

HAS_DRY_RUN = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["forget"], help="forget a worker")
    parser.add_argument("worker", nargs="?", metavar="ID", help="the worker to forget")
    parser.add_argument("--campaign", default="", metavar="ID", help="campaign (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    if args.action == "forget":
        if not args.worker:
            raise InvalidInput("no worker was named", field="ID", reason="USAGE", fix="gandt workers forget ID")
        if args.dry_run:
            ctx.out.summary({"dry_run": True, "worker_id": args.worker}, f"would forget {args.worker}")
            return exit_codes.DONE
        if not args.yes:
            raise GandtError(
                f"forgetting {args.worker} cannot be undone", reason="NEEDS_YES", fix="run it again with --yes"
            )
        answers, pseudonym = client.forget_worker(args.worker)
        ctx.out.summary(
            {"answers": answers, "new_worker_id": pseudonym}, f"{answers} answers now stand under {pseudonym}"
        )
        return exit_codes.DONE
    found = list(client.list_workers(args.campaign))
    columns = (*WORKER_COLUMNS, *WORKER_ESTIMATES)
    rows = [
        [
            w.worker_id,
            w.answers,
            *(None if v < 0 else v for v in (w.reliability, w.low, w.high, w.gold_accuracy)),
            w.verdict,
            *(None if getattr(w, name) < 0 else getattr(w, name) for name in WORKER_ESTIMATES),
        ]
        for w in found
    ]
    ctx.out.table(columns, rows)
    ctx.out.summary({"workers": [dict(zip(columns, row, strict=True)) for row in rows]}, f"{len(found)} workers")
    return exit_codes.DONE if found else exit_codes.NOTHING
