# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign is to do, where it stands, and when it ends by itself."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from gandt.domain.datasets import LabelSpace, check_classes
from gandt.domain.errors import InvalidInput, OverBudget
from gandt.domain.labeling.money import Money, Prices, quote
from gandt.domain.selection.proof import Proof

NAME_PATTERN = re.compile(r"[a-z0-9](?:-?[a-z0-9])*")
MAX_WORKERS = 9  # Ground Truth's limit for one page
DEFAULT_CONFIDENCE = 0.9
MAX_GROUP = 100  # a manifest line holds at most 20,000 characters; the builder checks the exact size


class CampaignState(StrEnum):
    """Where a campaign stands; the last three of the automatic ones are final."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    COMPLETED = "completed"
    STOPPED = "stopped"
    FAILED = "failed"
    MANUAL = "manual"

    @property
    def is_final(self) -> bool:
        """Whether nothing will ever happen to the campaign again."""
        return self in (CampaignState.COMPLETED, CampaignState.STOPPED, CampaignState.FAILED)


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a campaign ends by itself; a zero switches a rule off, the first that holds ends it.

    Attributes:
        min_yield, poor_rounds: a campaign that is to prove something goes over to proving instead of ending.
        prove_recall: share of the wanted images that is to be proven found, in [0, 1); 0 proves nothing.
        confidence: of every proven lower bound, in (0, 1).
    """

    max_rounds: int = 0
    max_labels: int = 0
    max_answers: int = 0
    min_yield: float = 0.0
    poor_rounds: int = 2
    prove_recall: float = 0.0
    confidence: float = DEFAULT_CONFIDENCE

    def allows_more_than(self, other: StopRule) -> bool:
        """Whether at least one limit is higher than another rule's; 0 is no limit.

        >>> StopRule(max_rounds=5).allows_more_than(StopRule(max_rounds=3))
        True
        >>> StopRule(max_answers=5).allows_more_than(StopRule())
        False
        """
        counts = ("max_rounds", "max_labels", "max_answers")
        limits = [(getattr(self, name) or math.inf, getattr(other, name) or math.inf) for name in counts]
        raised = any(mine > theirs for mine, theirs in limits)
        patience = bool(other.min_yield) and self.poor_rounds > other.poor_rounds
        proof = self.prove_recall > other.prove_recall
        proof = proof or (bool(other.prove_recall) and self.confidence > other.confidence)
        return raised or self.min_yield < other.min_yield or patience or proof


@dataclass(frozen=True, slots=True)
class CampaignSpec:
    """What a campaign is to do; fields as in the contract, zeros already replaced by their defaults (`checked`).

    Attributes:
        part_size: images selected at a time; a round of more is topped up from the answers so far. 0 selects it whole.
    """

    name: str
    classes: tuple[str, ...]
    other_label: str = ""
    multi_label: bool = False
    target_labels: tuple[str, ...] = ()
    instructions: str = ""
    budget_usd_micros: int = 0
    price_per_page_usd_micros: int = 0
    fee_per_page_usd_micros: int = 0
    round_size: int = 40
    group_size: int = 20
    workers_per_image: int = 3
    max_workers_per_image: int = 3
    strategy: str = "auto"
    control_fraction: float = 0.1
    method: str = "auto"
    gold_fraction: float = 0.0
    stop: StopRule = field(default_factory=StopRule)
    seed: int = 0
    workteam_arn: str = ""
    task_time_limit_seconds: int = 900
    task_availability_seconds: int = 864_000
    positive_example_uris: tuple[str, ...] = ()
    negative_example_uris: tuple[str, ...] = ()
    part_size: int = 0

    @property
    def prices(self) -> Prices:
        """What one page costs."""
        return Prices(fee=self.fee_per_page_usd_micros, price=self.price_per_page_usd_micros)

    @property
    def gold_per_page(self) -> int:
        """Gold tiles on a full page."""
        return int(self.group_size * self.gold_fraction)

    @property
    def images_per_page(self) -> int:
        """Images of the round on a full page; the rest is gold."""
        return max(1, self.group_size - self.gold_per_page)

    @property
    def space(self) -> LabelSpace:
        """All labels that an image may get, "other" at the end when it stands apart."""
        apart = bool(self.other_label) and self.other_label not in self.classes
        classes = (*self.classes, self.other_label) if apart else self.classes
        return LabelSpace(classes, self.other_label, self.multi_label)

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """The label space without "other", as pages offer it."""
        return tuple(name for name in self.classes if name != self.other_label)


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as it is.

    Attributes:
        images: images in the catalog.
        rounds: rounds begun.
        labeled: images labeled by people, seeds apart.
        answers: answers stored.
        targets_found: targets among the labels, seeds apart.
        version: grows with each change of the campaign, its rounds or its jobs.
    """

    campaign_id: str
    spec: CampaignSpec
    state: CampaignState
    created_at: datetime
    updated_at: datetime
    message: str = ""
    rounds: int = 0
    images: int = 0
    labeled: int = 0
    answers: int = 0
    targets_found: int = 0
    money: Money = field(default_factory=Money)
    version: int = 1


def _within(value: float, low: float, high: float, name: str) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"{name} is {value}, allowed are {low} to {high}", field=name, reason="OUT_OF_RANGE")


def _known_labels(labels: Sequence[str], space: Sequence[str], name: str) -> None:
    for label in labels:
        if label not in space:
            raise InvalidInput(
                f"{name} names {label!r}, which is not among the classes {', '.join(space)}",
                field=name,
                reason="UNKNOWN_LABEL",
                fix="use a class name exactly as given",
            )


def checked(spec: CampaignSpec) -> CampaignSpec:
    """The spec with defaults in place of zeros.

    Raises:
        InvalidInput: something in it can never work; `field` names the part.
    """
    if not NAME_PATTERN.fullmatch(spec.name) or len(spec.name) > 40:
        raise InvalidInput(
            f"campaign name {spec.name[:60]!r} must be 1 to 40 characters of a-z, 0-9 and single hyphens",
            field="name",
            reason="BAD_NAME",
        )
    classes = check_classes(spec.classes)
    workers = spec.workers_per_image or 3
    spec = replace(
        spec,
        classes=classes,
        other_label=spec.other_label.strip(),
        round_size=spec.round_size or 40,
        group_size=spec.group_size or 20,
        workers_per_image=workers,
        max_workers_per_image=spec.max_workers_per_image or workers,
        strategy=spec.strategy or "auto",
        method=spec.method or "auto",
        task_time_limit_seconds=spec.task_time_limit_seconds or 900,
        task_availability_seconds=spec.task_availability_seconds or 864_000,
        stop=replace(
            spec.stop,
            poor_rounds=spec.stop.poor_rounds or 2,
            confidence=spec.stop.confidence or DEFAULT_CONFIDENCE,
        ),
    )
    check_classes(spec.space.classes, field="other_label")
    _known_labels(spec.target_labels, spec.space.classes, "target_labels")
    if not spec.shown_classes:
        raise InvalidInput(
            f"the only class is {spec.other_label!r}, which means none of these; workers need a choice",
            field="classes",
            reason="NO_CLASSES",
        )
    _within(spec.round_size, 1, 100_000, "round_size")
    _within(spec.group_size, 1, MAX_GROUP, "group_size")
    _within(spec.workers_per_image, 1, MAX_WORKERS, "workers_per_image")
    _within(spec.max_workers_per_image, spec.workers_per_image, 1000, "max_workers_per_image")
    _within(spec.control_fraction, 0.0, 1.0, "control_fraction")
    _within(spec.gold_fraction, 0.0, 0.5, "gold_fraction")
    _within(spec.part_size, 0, 100_000, "part_size")
    _within(spec.stop.min_yield, 0.0, 1.0, "stop.min_yield")
    _within(spec.stop.prove_recall, 0.0, 0.999, "stop.prove_recall")
    _within(spec.stop.confidence, 0.5, 0.9999, "stop.confidence")
    if spec.stop.prove_recall and not spec.target_labels:
        raise InvalidInput(
            "a proof of recall needs a wanted label",
            field="stop.prove_recall",
            reason="NO_TARGETS",
            fix="name one, as in --target LABEL, or do not ask for a proof",
        )
    _within(spec.task_time_limit_seconds, 30, 28_800, "task_time_limit_seconds")
    _within(spec.task_availability_seconds, 60, 2_592_000, "task_availability_seconds")
    for name in ("max_rounds", "max_labels", "max_answers", "poor_rounds"):
        _within(getattr(spec.stop, name), 0, 2**31 - 1, f"stop.{name}")
    for name in ("budget_usd_micros", "price_per_page_usd_micros", "fee_per_page_usd_micros"):
        _within(getattr(spec, name), 0, 2**53, name)
    most = spec.stop.max_answers
    if most and most < spec.workers_per_image:
        raise InvalidInput(
            f"at most {most} answers may be bought, and the first image alone takes {spec.workers_per_image}",
            field="stop.max_answers",
            reason="OUT_OF_RANGE",
            fix="allow more answers, or ask fewer workers an image",
        )
    return spec


def check_budget(spec: CampaignSpec) -> None:
    """Refuse a budget that does not reach for one page.

    Raises:
        OverBudget: the worst case of a page of one image costs more.
    """
    worst = quote(1, spec.workers_per_image, spec.max_workers_per_image, spec.images_per_page, spec.prices).max_cost
    if worst > spec.budget_usd_micros:
        raise OverBudget(
            f"the budget of {spec.budget_usd_micros / 1e6:.2f} US dollars does not reach for one page, which may cost "
            f"{worst / 1e6:.2f} with {spec.max_workers_per_image} workers",
            reason="BUDGET_BELOW_ONE_PAGE",
            fix="give a larger budget, a lower price or fewer workers an image",
        )


def stop_reason(campaign: Campaign, yields: Sequence[float], proof: Proof | None = None) -> str:
    """Why the campaign ends now, in words; "" when it goes on.

    Args:
        campaign: with its counts as of the last aggregated round.
        yields: share of main picks that are targets, one for each aggregated round that had main picks, oldest first.
        proof: what is proven, in a campaign that is to prove something.
    """
    rule = campaign.spec.stop
    if rule.prove_recall and proof is not None and proof.recall >= rule.prove_recall:
        return f"a recall of {rule.prove_recall:.0%} is proven"
    if rule.max_rounds and campaign.rounds >= rule.max_rounds:
        return f"all {rule.max_rounds} rounds are done"
    if rule.max_labels and campaign.labeled >= rule.max_labels:
        return f"{campaign.labeled} labels are bought, the limit was {rule.max_labels}"
    if rule.max_answers and campaign.answers >= rule.max_answers:
        return f"{campaign.answers} answers are bought, the limit was {rule.max_answers}"
    poor = yields[-rule.poor_rounds :]
    if (
        rule.min_yield
        and not rule.prove_recall
        and len(poor) == rule.poor_rounds
        and all(share < rule.min_yield for share in poor)
    ):
        shares = ", ".join(f"{share:.0%}" for share in poor)
        return f"{rule.poor_rounds} rounds in a row found too few targets ({shares}; the limit is {rule.min_yield:.0%})"
    return ""
