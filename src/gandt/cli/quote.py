# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what the newest round will cost, and what finding and proving will still take, before money is spent.

Before the first round it says only the latter, counted on two wanted images in a hundred until control draws say more.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from gandt.cli import exit_codes
from gandt.cli.context import Context
from gandt.cli.output import usd
from gandt.domain.errors import NotFound

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient
    from gandt.domain.labeling.money import Quote
    from gandt.domain.selection.forecast import Forecast


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--round", default="", metavar="ID", help="round (default: the newest)")


def run(args: argparse.Namespace, ctx: Context) -> int:
    ctx.require_project()
    client = ctx.connect("jobcontroller")
    try:
        quote, available, coming = client.quote_round(args.round)
    except NotFound:
        if args.round:
            raise
        return _before_the_first(ctx, client)
    words = "" if coming is None else f"; {coming.sentence}"
    if not quote.images:
        ctx.out.summary({"images": 0, "forecast": values_of(coming)}, f"no round waits for money{words}")
        return exit_codes.DONE
    fits = quote.max_cost <= available
    ctx.out.table(("case", "answers", "cost"), _cases(quote))
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
            "forecast": values_of(coming),
        },
        f"{quote.images} images on {quote.pages} pages; {usd(available)} left; {verdict}{words}",
    )
    return exit_codes.DONE if fits else exit_codes.REFUSED


def _cases(quote: Quote) -> list[tuple[str, int, str]]:
    return [
        ("no image needs another answer", quote.min_answers, usd(quote.min_cost)),
        ("expected", quote.expected_answers, usd(quote.expected_cost)),
        ("every image needs the most", quote.max_answers, usd(quote.max_cost)),
    ]


def _before_the_first(ctx: Context, client: JobControllerClient) -> int:
    """The project has no campaign yet: what one with the settings of gandt.toml would take."""
    settings = ctx.config.section("project")
    coming = first_forecast(
        client.count_images(), settings["prove_recall"], settings["confidence"], settings["control_fraction"]
    )
    ctx.out.summary({"images": 0, "forecast": values_of(coming)}, f"no campaign yet; {coming.sentence}")
    return exit_codes.DONE


def first_forecast(images: int, prove_recall: float, confidence: float, control_fraction: float) -> Forecast:
    """What a campaign over so many images will take, when nothing is known of them."""
    from gandt.domain.selection.forecast import forecast

    return forecast(images, 0, None, prove_recall or 0.8, confidence, control_fraction)


def values_of(coming: Forecast | None) -> dict[str, object] | None:
    """A forecast for --json."""
    if coming is None:
        return None
    return {
        "find_labels": coming.find,
        "prove_labels": coming.prove,
        "pool": coming.pool,
        "targets": coming.targets,
        "targets_assumed": coming.assumed,
        "recall": coming.recall,
        "confidence": coming.confidence,
        "worth_it": coming.is_worth_it,
    }
