# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what the newest round will cost, as a range, before any money is spent."""

from __future__ import annotations

import argparse

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.output import usd


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--round", default="", metavar="ID", help="round (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    quote, available = ctx.connect("jobcontroller").quote_round(args.round)
    fits = quote.max_cost <= available
    ctx.out.table(
        ("case", "answers", "cost"),
        [
            ("no image needs another answer", quote.min_answers, usd(quote.min_cost)),
            ("expected", quote.expected_answers, usd(quote.expected_cost)),
            ("every image needs the most", quote.max_answers, usd(quote.max_cost)),
        ],
    )
    verdict = "within the budget" if fits else "over the budget: raise it or make the round smaller"
    ctx.out.summary(
        {
            "images": quote.images,
            "pages": quote.pages,
            "min_answers": quote.min_answers,
            "expected_answers": quote.expected_answers,
            "max_answers": quote.max_answers,
            "min_cost_usd": quote.min_cost / 1e6,
            "expected_cost_usd": quote.expected_cost / 1e6,
            "max_cost_usd": quote.max_cost / 1e6,
            "available_usd": available / 1e6,
            "within_budget": fits,
        },
        f"{quote.images} images on {quote.pages} pages; {usd(available)} left; {verdict}",
    )
    return exit_codes.DONE if fits else exit_codes.REFUSED
