# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images need another answer, and what that is expected to bring: a model estimate, not a bound.

The estimate trusts the fitted model: crowds that are wrong together look certain, and no further answer shows it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from gandt.domain.aggregation.aggregate import Aggregation
from gandt.domain.aggregation.records import PlannedImage, PlanSpec, PlanSummary


@dataclass(frozen=True, slots=True)
class Plan:
    """Planned images in order of worth (expected gain in accuracy an answer), and the sums."""

    images: Sequence[PlannedImage]
    summary: PlanSummary


def plan_answers(result: Aggregation, spec: PlanSpec) -> Plan:
    """Plans the next answers.

    This is the stop rule of dynamic overlap. An image is asked again while it has fewer than `min_answers`, or fewer
    than `max_answers` and either less than `target_confidence` or a place in the explored share. Gold never is. The
    number it needs is what an average worker's votes would take to lift the odds of its label.

    Args:
        result: the aggregation so far.
        spec: target, limits and budget.
    """
    d, order = result.decisions, result.order
    confidence, answers = d.confidence[order], d.answers[order]
    classes = max(len(result.ballot.classes), 2)
    accuracy = _crowd_accuracy(result)
    base = np.where(d.unlabeled[order], 1.0 / classes, confidence)
    few = answers < spec.min_answers
    unsure = (confidence < spec.target_confidence) & (answers < spec.max_answers)
    explored = _explored(result, spec.explore_share) & (answers < spec.max_answers)
    asked = np.flatnonzero((few | unsure | explored) & ~d.gold[order])
    needed = _needed(base, answers, accuracy, classes, spec)
    needed = np.where(explored, spec.max_answers - answers, needed)[asked]
    after = _expected(base[asked], needed, accuracy, classes)
    worth = (after - base[asked]) / needed
    ranked = np.lexsort((asked, -worth))
    if spec.answer_budget is not None:
        ranked = ranked[np.cumsum(needed[ranked]) <= spec.answer_budget]
    gain = float((after - base[asked])[ranked].sum())
    images = list(_planned(result, spec, asked[ranked], needed[ranked]))
    now = float(base.mean()) if len(base) else math.nan
    later = now + gain / len(base) if len(base) else math.nan
    return Plan(images, PlanSummary(len(images), int(needed[ranked].sum()), now, later))


def _explored(result: Aggregation, share: float) -> NDArray[np.bool_]:
    """bool[J]: whether an image belongs to the explored share; its id decides, so it stays in from call to call."""
    if not share:
        return np.zeros(len(result.order), np.bool_)
    names = (result.images[i].encode() for i in result.ballot.item_image[result.order].tolist())
    draws = b"".join(hashlib.blake2b(name, digest_size=4, person=b"explore").digest() for name in names)
    drawn: NDArray[np.bool_] = np.frombuffer(draws, "<u4") < share * 2**32
    return drawn


def _crowd_accuracy(result: Aggregation) -> float:
    """Accuracy of the next vote: the crowd's mean by votes, kept within what makes an answer worth something."""
    people = (w for w in result.reports if not w.image_model)
    known = [(w.estimated_accuracy, w.answers) for w in people if w.estimated_accuracy is not None]
    total = sum(answers for _, answers in known)
    mean = sum(accuracy * answers for accuracy, answers in known) / total if total else 0.8
    chance = 1 / max(len(result.ballot.classes), 2)
    return min(max(mean, chance + 0.05), 0.99)


def _lift(accuracy: float, classes: int) -> float:
    """What one vote adds to the log odds of its class against all others together."""
    return math.log(accuracy * (classes - 1) / (1 - accuracy))


def _needed(
    base: NDArray[np.float64], answers: NDArray[np.int64], accuracy: float, classes: int, spec: PlanSpec
) -> NDArray[np.int64]:
    """i64: answers until the expected odds reach the target, within the limits, at least 1."""
    odds = np.log(np.clip(base, 1e-6, 1 - 1e-6)) - np.log(1 - np.clip(base, 1e-6, 1 - 1e-6))
    target = min(spec.target_confidence, 1 - 1e-6)
    drift = (accuracy - (1 - accuracy) / (classes - 1)) * _lift(accuracy, classes)
    wanted = np.ceil((math.log(target / (1 - target)) - odds) / max(drift, 1e-6))
    needed = np.maximum(np.maximum(wanted, spec.min_answers - answers), 1)
    result: NDArray[np.int64] = np.minimum(needed, np.maximum(spec.max_answers - answers, 1)).astype(np.int64)
    return result


def _expected(
    base: NDArray[np.float64], needed: NDArray[np.int64], accuracy: float, classes: int
) -> NDArray[np.float64]:
    """Expected probability of the best label after the answers, label against its strongest rival."""
    result = base.copy()
    lift = _lift(accuracy, classes)
    for count in np.unique(needed):
        rows = needed == count
        p = np.clip(base[rows], 1e-6, 1 - 1e-6)[:, None]
        right = np.arange(count + 1)
        if_true, if_false = _binomial(right, int(count), accuracy), _binomial(right, int(count), 1 - accuracy)
        odds = np.log(p / (1 - p)) + lift * (2 * right - count)
        best = 1 / (1 + np.exp(-np.abs(np.clip(odds, -50, 50))))
        result[rows] = ((p * if_true + (1 - p) * if_false) * best).sum(axis=1)
    return np.maximum(result, base)


def _binomial(hits: NDArray[np.int64], trials: int, share: float) -> NDArray[np.float64]:
    """f64: binomial probabilities; scipy.stats would give the same and take a second to import."""
    ways = gammaln(trials + 1) - gammaln(hits + 1) - gammaln(trials - hits + 1)
    result: NDArray[np.float64] = np.exp(ways + hits * np.log(share) + (trials - hits) * np.log1p(-share))
    return result


def _planned(
    result: Aggregation, spec: PlanSpec, rows: NDArray[np.int64], needed: NDArray[np.int64]
) -> Iterator[PlannedImage]:
    d = result.decisions
    for row, count in zip(rows.tolist(), needed.tolist(), strict=True):
        item = int(result.order[row])
        if d.unlabeled[item]:
            reason = "no vote counts"
        elif d.answers[item] < spec.min_answers:
            reason = f"has {int(d.answers[item])} of at least {spec.min_answers} answers"
        elif d.tied[item]:
            reason = "several labels are equally likely"
        elif d.confidence[item] >= spec.target_confidence:
            reason = "explored: drawn for all answers, however sure"
        else:
            reason = f"probability {d.confidence[item]:.2f} is below {spec.target_confidence:g}"
        yield PlannedImage(result.images[result.ballot.item_image[item]], count, float(d.confidence[item]), reason)
