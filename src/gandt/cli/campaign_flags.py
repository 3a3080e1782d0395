# SPDX-License-Identifier: GPL-3.0-or-later
"""The flags that describe a campaign, shared by `init` and `run`; absent ones come from the configuration."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from gandt.cli.context import Context
from gandt.domain.datasets import check_classes
from gandt.domain.errors import InvalidInput

if TYPE_CHECKING:
    from gandt.domain.labeling.campaigns import CampaignSpec

DEFAULT_OTHER = "Other"
DEFAULT_PROOF = 0.8


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a campaign."""
    group = parser.add_argument_group("the campaign")
    group.add_argument("--classes", metavar="A,B,...", help="label space, in the order that people see")
    group.add_argument("--target", metavar="LABEL", action="append", help="find more of this label (may be repeated)")
    group.add_argument("--other-label", metavar="LABEL", help=f"label for none of these (default: {DEFAULT_OTHER})")
    group.add_argument("--multilabel", action="store_true", default=None, help="an image may carry several labels")
    group.add_argument("--budget", type=float, metavar="USD", help="most money in all")
    group.add_argument("--price-per-page", type=float, metavar="USD", help="pay for one page by one worker")
    group.add_argument("--max-answers", type=int, metavar="N", help="most answers bought")
    group.add_argument("--max-labels", type=int, metavar="N", help="most images labeled")
    group.add_argument("--max-rounds", type=int, metavar="N", help="most rounds")
    group.add_argument("--round-size", type=int, metavar="N", help="images a round")
    group.add_argument("--part-size", type=int, metavar="N", help="images selected at a time, from the answers so far")
    group.add_argument(
        "--min-yield", type=float, metavar="SHARE", help="wanted share of a round's picks below which it is poor"
    )
    group.add_argument(
        "--prove",
        type=float,
        nargs="?",
        const=DEFAULT_PROOF,
        metavar="RECALL",
        help=f"go on until so much is proven found (without a figure: {DEFAULT_PROOF})",
    )
    group.add_argument("--confidence", type=float, metavar="SHARE", help="of the proven bound (default: 0.9)")
    group.add_argument("--workers-per-image", type=int, metavar="N", help="workers an image at first")
    group.add_argument("--max-workers-per-image", type=int, metavar="N", help="most workers an image, with repeats")
    group.add_argument("--strategy", metavar="NAME", help="how images are selected (default: auto)")
    group.add_argument("--method", metavar="NAME", help="how answers are aggregated (default: auto)")
    group.add_argument("--instructions", metavar="TEXT", help="what workers are told on each page; @FILE reads it")


def slug(text: str) -> str:
    """A campaign's name from any text: 1 to 40 characters of a-z, 0-9 and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-") or "campaign"


def micros(usd: float, flag: str) -> int:
    """US dollars to millionths.

    Raises:
        InvalidInput: a negative amount, or none at all (NaN).
    """
    if not 0 <= usd < 1e9:
        raise InvalidInput(f"{flag} is {usd}, it must be 0 or more US dollars", field=flag, reason="BAD_AMOUNT")
    return round(usd * 1_000_000)


def classes_of(args: argparse.Namespace, ctx: Context) -> tuple[str, ...]:
    """The classes by flag or configuration, checked."""
    given = args.classes.split(",") if args.classes else ctx.config.get("project", "classes")
    return check_classes(given)


def one_person(args: argparse.Namespace, ctx: Context) -> None:
    """Asks for one answer an image unless somebody said otherwise: a person alone can give no second one."""
    origins = {key: value.origin for section, key, value in ctx.config.items() if section == "project"}
    if args.workers_per_image is None and origins["workers_per_image"] == "default":
        args.workers_per_image = args.max_workers_per_image = 1
        ctx.out.note("one answer an image; with a team ask for more: --workers-per-image 3")


def spec_from(args: argparse.Namespace, ctx: Context) -> CampaignSpec:
    """The campaign that flags and configuration describe.

    Raises:
        InvalidInput: something in it can never work.
        OverBudget: the budget does not reach for one page.
    """
    from gandt.domain.labeling.campaigns import CampaignSpec, StopRule, check_budget, checked

    settings = ctx.config.section("project")

    def value(flag: str, key: str) -> object:
        given = getattr(args, flag, None)
        return settings[key] if given is None else given

    def number(flag: str, key: str) -> int:
        return int(str(value(flag, key)))

    def share(flag: str, key: str) -> float:
        return float(str(value(flag, key)))

    classes = classes_of(args, ctx)
    if number("round_size", "round_size") < 1:
        raise InvalidInput(
            f"--round-size is {number('round_size', 'round_size')}, a round has at least one image",
            field="round_size",
            reason="OUT_OF_RANGE",
            fix="give the images of a round, or leave it out for the default",
        )
    if not 0 < share("confidence", "confidence") < 1:
        raise InvalidInput(
            f"--confidence is {share('confidence', 'confidence')}, it must be between 0 and 1",
            field="confidence",
            reason="OUT_OF_RANGE",
            fix="give 0.9 or 0.95, or leave it out",
        )
    if getattr(args, "max_workers_per_image", None) is not None and (
        args.max_workers_per_image < number("workers_per_image", "workers_per_image")
    ):
        raise InvalidInput(
            f"--max-workers-per-image {args.max_workers_per_image} is less than the workers an image gets at first",
            field="max_workers_per_image",
            reason="OUT_OF_RANGE",
            fix="raise it, or lower --workers-per-image",
        )
    targets = tuple(args.target or settings["target_labels"])
    other = str(value("other_label", "other_label"))
    if not other:
        # Without a way to say "none of these" workers would have to lie about every other image.
        other = next((name for name in classes if name.casefold() == DEFAULT_OTHER.casefold()), DEFAULT_OTHER)
    spec = checked(
        CampaignSpec(
            name=slug(settings["name"] or ctx.project_dir.resolve().name),
            classes=classes,
            other_label=other,
            multi_label=bool(value("multilabel", "multi_label")),
            target_labels=targets,
            instructions=_instructions(args) or settings["instructions"],
            budget_usd_micros=micros(float(str(value("budget", "budget_usd"))), "--budget"),
            price_per_page_usd_micros=micros(
                float(str(value("price_per_page", "price_per_page_usd"))), "--price-per-page"
            ),
            fee_per_page_usd_micros=micros(settings["fee_per_page_usd"], "project.fee_per_page_usd"),
            round_size=number("round_size", "round_size"),
            group_size=settings["group_size"],
            workers_per_image=number("workers_per_image", "workers_per_image"),
            max_workers_per_image=max(
                number("max_workers_per_image", "max_workers_per_image"),
                number("workers_per_image", "workers_per_image"),
            ),
            strategy=str(value("strategy", "strategy")),
            control_fraction=settings["control_fraction"],
            method=str(value("method", "method")),
            gold_fraction=settings["gold_fraction"],
            stop=StopRule(
                max_rounds=number("max_rounds", "max_rounds"),
                max_labels=number("max_labels", "max_labels"),
                max_answers=number("max_answers", "max_answers"),
                min_yield=share("min_yield", "min_yield") if targets else 0.0,
                prove_recall=share("prove", "prove_recall"),
                confidence=share("confidence", "confidence"),
            ),
            seed=ctx.seed,
            workteam_arn=settings["workteam_arn"],
            part_size=number("part_size", "part_size"),
        )
    )
    check_budget(spec)
    _check_names(spec)
    return spec


def _instructions(args: argparse.Namespace) -> str:
    """The text of --instructions, from a file when it begins with @.

    Raises:
        InvalidInput: the file cannot be read, or is no text.
    """
    given = str(getattr(args, "instructions", None) or "")
    if not given.startswith("@"):
        return given
    try:
        return Path(given[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise InvalidInput(
            f"the instructions in {given[1:]} cannot be read: {why}",
            field="instructions",
            reason="CANNOT_READ",
            fix="name a text file after the @",
        ) from error


def _check_names(spec: CampaignSpec) -> None:
    """Refuse a strategy or method that cannot work, before images are read.

    The job controller checks them again, by what its services offer.

    Raises:
        InvalidInput: there is no such strategy or method, or it does not fit the labels.
    """
    try:
        from gandt.domain.aggregation.methods import find
        from gandt.domain.aggregation.records import AUTO
        from gandt.domain.selection.registry import check_targets
    except ImportError:  # a base installation has no SciPy; its services are elsewhere
        return
    check_targets(spec.strategy, spec.target_labels)
    if spec.method != AUTO:
        find(spec.method, spec.multi_label)


def ensure_project(folder: Path) -> None:
    """Makes the project's state folder where it is missing.

    Raises:
        GandtError: the folder cannot be made.
    """
    from gandt.domain.errors import GandtError

    try:
        (folder / ".gandt").mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise GandtError(
            f"no project can be made in {folder}: {e.strerror}",
            reason="CANNOT_WRITE",
            fix="choose a folder that you may write to with --project DIR",
        ) from e
