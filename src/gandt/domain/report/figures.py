# SPDX-License-Identifier: GPL-3.0-or-later
"""The figures of a campaign, computed once and shown in the terminal, `report.json` and `report.html`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import repeat
from typing import Any

import numpy as np

from gandt.domain.aggregation.calibration import calibrate
from gandt.domain.aggregation.trust import Calibration
from gandt.domain.datasets import Arm, LabelStatus
from gandt.domain.report.random_choice import expected_draws, expected_found
from gandt.domain.selection.proof import Proof

RECALL_GOAL = 0.8


@dataclass(frozen=True, slots=True)
class LabeledPick:
    """One image that people labeled.

    Attributes:
        labels: its consensus labels.
        truth: its true labels, or None when nobody knows.
        agreeing, answers: votes for the labels, and votes in all.
    """

    image_id: str
    path: str
    labels: tuple[str, ...]
    confidence: float
    status: LabelStatus
    answers: int
    agreeing: int
    round: int
    rank: int
    arm: Arm
    reason: str = ""
    truth: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """What the controller says of one round."""

    number: int
    strategy: str
    explanation: str
    images: int
    answers: int
    cost_usd_micros: int
    control_pool: int = 0


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What aggregation says of one worker."""

    worker_id: str
    answers: int
    reliability: float
    low: float
    high: float
    gold_accuracy: float
    verdict: str


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """Everything that the figures are computed from.

    Attributes:
        images: images in the catalog.
        seeds: images that were labeled from the start, and how many of them are targets.
        pool_truth: number of target images in the pool (seeds apart), or None when the truth is not known.
        picks: labeled images of all rounds.
        stage_seconds: time by stage, in the order of the loop.
        versions: what made the report: package, model, seed, ...
        proof: what the control draws prove; None when nothing was wanted.
        prove_recall: share that was to be proven found; 0 when nobody asked for a proof.
    """

    name: str
    classes: tuple[str, ...]
    target_labels: tuple[str, ...]
    other_label: str
    state: str
    message: str
    images: int
    seeds: int
    seed_targets: int
    pool_truth: int | None
    picks: Sequence[LabeledPick]
    rounds: Sequence[RoundRecord]
    workers: Sequence[WorkerRecord]
    budget_usd_micros: int
    spent_usd_micros: int
    workers_per_image: int
    fixed_cost_usd_micros: int
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    prove_recall: float = 0.0


@dataclass(frozen=True, slots=True)
class RandomChoice:
    """The same by uniform random choice, exactly, from the pool's true counts.

    Attributes:
        expected_labels: labels until RECALL_GOAL of the targets are found.
        expected_found: targets found with the labels that were bought here.
        ratio: expected_labels over the labels bought here until the goal; None when it was not reached.
    """

    expected_labels: float
    expected_found: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What the report says. Shares and probabilities are in [0, 1], money in millionths of a US dollar.

    Attributes:
        targets_found: images whose consensus label is wanted.
        targets_right: those of them that truly are; None when the truth is not known.
        labels_to_goal: labels bought until RECALL_GOAL of the true targets were found; None when that was not reached.
        curve: (labels bought, targets found) after each label.
        proof: what is proven, with the claim in words; None when nothing was wanted.
        random_yield: targets a label by random choice, estimated from the control draws without bias.
        calibration: how honest the confidence of workers' labels is where the truth is known; None where it is not.
    """

    name: str
    state: str
    message: str
    images: int
    pool: int
    seeds: int
    labels_bought: int
    answers_bought: int
    cost_usd_micros: int
    fixed_cost_usd_micros: int
    targets_found: int
    targets_right: int | None
    targets_in_pool: int | None
    labels_to_goal: int | None
    label_accuracy: float | None
    certain: int
    random: RandomChoice | None
    curve: Sequence[tuple[int, int]]
    control_labels: int
    control_targets: int
    main_yield: float | None
    control_yield: float | None
    class_counts: Mapping[str, int]
    stage_seconds: Mapping[str, float]
    proof: Mapping[str, Any] | None = None
    random_yield: float | None = None
    calibration: Calibration | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `report.json`."""
        return asdict(self)


def figures_of(record: CampaignRecord) -> Figures:
    """Computes all figures of a campaign."""
    picks = sorted(record.picks, key=lambda p: (p.round, p.arm != Arm.CONTROL, p.rank, p.image_id))
    targets = set(record.target_labels)
    found = [bool(targets.intersection(p.labels)) for p in picks]
    curve = [(0, 0)]
    for hit in found:
        curve.append((curve[-1][0] + 1, curve[-1][1] + hit))
    pool = record.images - record.seeds
    control = [hit for hit, p in zip(found, picks, strict=True) if p.arm == Arm.CONTROL]
    main = [hit for hit, p in zip(found, picks, strict=True) if p.arm != Arm.CONTROL]
    reached = _labels_to_goal(picks, targets, record.pool_truth)
    judged = [p for p in picks if p.truth is not None and p.status != LabelStatus.UNLABELED]
    right = sum(set(p.labels) == set(p.truth or ()) for p in judged)
    return Figures(
        name=record.name,
        state=record.state,
        message=record.message,
        images=record.images,
        pool=pool,
        seeds=record.seeds,
        labels_bought=len(picks),
        answers_bought=sum(r.answers for r in record.rounds),
        cost_usd_micros=record.spent_usd_micros,
        fixed_cost_usd_micros=record.fixed_cost_usd_micros,
        targets_found=sum(found),
        targets_right=None if record.pool_truth is None else sum(map(_is_right, picks, repeat(targets))),
        targets_in_pool=record.pool_truth,
        labels_to_goal=reached,
        label_accuracy=right / len(judged) if judged else None,
        certain=sum(p.status == LabelStatus.CERTAIN for p in picks),
        random=_random_choice(pool, record.pool_truth, len(picks), reached),
        curve=curve,
        control_labels=len(control),
        control_targets=sum(control),
        main_yield=sum(main) / len(main) if main else None,
        control_yield=sum(control) / len(control) if control else None,
        class_counts=dict(Counter(label for p in picks for label in p.labels)),
        stage_seconds=dict(record.stage_seconds),
        proof=record.proof.to_json() if record.proof is not None else None,
        random_yield=_random_yield(record, pool),
        calibration=_calibration([p for p in judged if p.answers]),
    )


def _calibration(judged: Sequence[LabeledPick]) -> Calibration | None:
    """Confidence against truth, a label as one yes-no question: is it right? Picks are no random draw of the images."""
    if not judged:
        return None
    sure = np.array([p.confidence for p in judged])
    right = np.array([set(p.labels) == set(p.truth or ()) for p in judged], np.int64)
    return calibrate(np.stack([1 - sure, sure], 1), right, drawn_at_random=False)


def _random_yield(record: CampaignRecord, pool: int) -> float | None:
    """The share of targets in the pool as it was at the start; a mean over draws would mix emptied pools with it."""
    if record.proof is None or record.proof.total is None or not pool:
        return None
    return max(record.proof.total - record.seed_targets, 0.0) / pool


def _labels_to_goal(picks: Sequence[LabeledPick], targets: set[str], in_pool: int | None) -> int | None:
    """Labels bought until RECALL_GOAL of the true targets were labeled as targets; None when that was not reached."""
    if not in_pool:
        return None
    goal, right = math.ceil(RECALL_GOAL * in_pool), 0
    for count, pick in enumerate(picks, 1):
        right += _is_right(pick, targets)
        if right >= goal:
            return count
    return None


def _is_right(pick: LabeledPick, targets: set[str]) -> bool:
    """Whether an image was called a target and is one."""
    return bool(targets.intersection(pick.labels)) and bool(targets.intersection(pick.truth or ()))


def _random_choice(pool: int, in_pool: int | None, bought: int, reached: int | None) -> RandomChoice | None:
    if not in_pool:
        return None
    expected = expected_draws(pool, in_pool, math.ceil(RECALL_GOAL * in_pool))
    return RandomChoice(expected, expected_found(pool, in_pool, bought), expected / reached if reached else None)
