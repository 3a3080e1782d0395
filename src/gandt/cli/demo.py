# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the whole loop on 1,797 real images, the handwritten digits that come with scikit-learn; no network.

One digit is thinned to 2 % of the pool and searched for, then two digits as one class. Simulated workers of
differing reliability label over the real HTTP path. With --human you label in the browser.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from gandt.cli.campaign_flags import DEFAULT_OTHER, add_flags, ensure_project, one_person, spec_from
from gandt.cli.context import Context
from gandt.cli.digits import write_task
from gandt.cli.loop import Loop, LoopResult, run_loop
from gandt.domain.errors import InvalidInput

TASKS = ((3,), (5, 8))
PRICE_USD = 0.036  # a page of 20 images by one worker: a price from Ground Truth's list


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--human", action="store_true", help="label in the browser instead of simulated workers")
    parser.add_argument("--digits", metavar="A[,B]", help="only search for these digits (default: 3, then 5 and 8)")
    add_flags(parser)


def run(args: argparse.Namespace, ctx: Context) -> int:
    home = ctx.project_dir if args.project != "." else Path("demo")
    tasks = [_digits(args.digits)] if args.digits else list(TASKS)
    if args.human:
        tasks = tasks[:1]
    results = []
    for number, wanted in enumerate(tasks):
        folder = home if number == 0 else home / ("digits-" + "-".join(map(str, wanted)))
        label = " or ".join(map(str, wanted))
        ctx.out.note(f"looking for the digit {label} among {folder / 'images'}")
        results.append(_one(args, ctx, folder, wanted, label))
    values: dict[str, Any] = {"runs": [result.to_json() for result in results]}
    ctx.out.summary(values, "done; open " + " and ".join(result.report for result in results))
    return max(result.exit_code for result in results)


def _digits(text: str) -> tuple[int, ...]:
    """`5,8` as numbers.

    Raises:
        InvalidInput: something else than digits.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and len(part) == 1 for part in parts):
        raise InvalidInput(f"--digits is {text!r}", field="digits", reason="BAD_DIGIT", fix="name digits, as 3 or 5,8")
    return tuple(sorted({int(part) for part in parts}))


def _one(args: argparse.Namespace, ctx: Context, folder: Path, wanted: tuple[int, ...], label: str) -> LoopResult:
    write_task(folder, wanted, label, DEFAULT_OTHER, ctx.seed)
    ensure_project(folder)
    with ctx.at(folder) as inner:
        args.classes, args.target, args.other_label = label, [label], DEFAULT_OTHER
        args.budget = 20.0 if args.budget is None else args.budget
        args.price_per_page = PRICE_USD if args.price_per_page is None else args.price_per_page
        args.round_size = 20 if args.round_size is None else args.round_size
        if args.human:
            one_person(args, inner)
        loop = Loop(
            sources=(str(folder / "images"),),
            spec=spec_from(args, inner),
            seed_labels=str(folder / "seed.csv"),
            truth="" if args.human else str(folder / "truth.csv"),
            open_browser=args.human,
            begin_anew=True,
            report=str(folder / "report.html"),
        )
        result = run_loop(inner, loop)
    for line in result.lines():
        ctx.out.note(line)
    return result
