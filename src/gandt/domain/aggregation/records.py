# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into aggregation and what comes out: the spec, chunks of answers, verdicts, workers, the summary.

Light on purpose (no SciPy): the client and the command line import it too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.aggregation.trust import Audit, Calibration
from gandt.domain.datasets import AnswerState, LabelEstimate
from gandt.domain.errors import InvalidInput

STATES: tuple[AnswerState, ...] = tuple(AnswerState)
"""Answer states by their number in `AnswerChunk.states`; 0 is the one that votes."""

AUTO = "auto"
UNKNOWN_CLASS = "not among the classes"
"""Part of each warning about a label outside the label space, so that callers can tell that something failed."""

IMAGE_MODEL = "image model"
"""Name of the image model in the report on workers, where `WorkerReport.image_model` tells it from a person."""


class DuplicatePolicy(StrEnum):
    """Which of several answers of one worker to one image counts."""

    FIRST = "first"
    LAST = "last"
    ERROR = "error"


class Verdict(StrEnum):
    """Whether a worker can be relied on; UNKNOWN when there are too few answers to say."""

    RELIABLE = "reliable"
    UNRELIABLE = "unreliable"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class AggregateSpec:
    """How to aggregate.

    Attributes:
        method: a name from `methods.METHODS`, or `auto`.
        classes: label space in the order in which ties are shown; () takes the labels seen, sorted by code point.
        multi_label: whether an image may carry several labels.
        min_answers: fewest agreeing answers of an image to be certain, >= 1; one vote against one is never certain.
        min_proportion: share or probability that the label must exceed to be certain, in [0, 1].
        reliability_threshold: reliability that a worker must exceed to be reliable, in [0, 1].
        compat: reproduce the original count for count; method, classes and duplicates are then ignored.
        with_posteriors: also return each image's posterior.
        include_previous: also label the images of earlier jobs, and let those answers vote.
        min_worker_answers: fewest answers of a worker for a verdict, >= 1.
        state: returned by an earlier call; b"" starts anew.
        with_state: return a state for the next call.
        audit_size: settled images to draw for an expert's judgment; 0 draws none.
        audit_seed: decides their order; the same in every call of one audit.
        audit_target: share of wrong labels to be bounded, in (0, 1).
    """

    method: str = AUTO
    classes: tuple[str, ...] = ()
    multi_label: bool = False
    min_answers: int = 2
    min_proportion: float = 0.5
    reliability_threshold: float = 0.8
    compat: bool = False
    duplicates: DuplicatePolicy = DuplicatePolicy.FIRST
    with_posteriors: bool = False
    include_previous: bool = False
    min_worker_answers: int = 10
    state: bytes = b""
    with_state: bool = False
    audit_size: int = 0
    audit_seed: int = 0
    audit_target: float = 0.05

    def __post_init__(self) -> None:
        for name in ("min_proportion", "reliability_threshold"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InvalidInput(f"{name} is {value}, it must lie in [0, 1]", field=name, reason="BAD_THRESHOLD")
        for name in ("min_answers", "min_worker_answers"):
            if getattr(self, name) < 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}, it must be 1 or more", field=name)
        if self.audit_size < 0 or not 0 <= self.audit_seed < 1 << 64:
            raise InvalidInput(
                f"audit_size is {self.audit_size} and audit_seed {self.audit_seed}; neither may be negative",
                field="audit_size",
                reason="BAD_NUMBER",
            )
        if not 0 < self.audit_target < 1:
            raise InvalidInput(
                f"audit_target is {self.audit_target}, it must lie in (0, 1)", field="audit_target", reason="BAD_SHARE"
            )
        if len(set(self.classes)) != len(self.classes):
            raise InvalidInput("a class is named twice", field="classes", reason="BAD_CLASS")


@dataclass(frozen=True, slots=True)
class PlanSpec:
    """What another answer may cost and how sure labels must be.

    Attributes:
        aggregate: how to aggregate first.
        target_confidence: probability that an image's label must reach, in (0, 1).
        min_answers, max_answers: fewest and most answers an image.
        answer_budget: answers that may still be bought in all; None is no limit.
        explore_share: share of the images, drawn by their ids, that get `max_answers` however sure they look, in
            [0, 1]; only these show where the first answers to an image were wrong together.
    """

    aggregate: AggregateSpec = field(default_factory=AggregateSpec)
    target_confidence: float = 0.95
    min_answers: int = 2
    max_answers: int = 9
    answer_budget: int | None = None
    explore_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.explore_share <= 1:
            raise InvalidInput(
                f"explore_share is {self.explore_share}, it must lie in [0, 1]",
                field="explore_share",
                reason="BAD_SHARE",
            )
        if not 0 < self.target_confidence <= 1:
            raise InvalidInput(
                f"target_confidence is {self.target_confidence}, it must lie in (0, 1]", field="target_confidence"
            )
        if self.answer_budget is not None and self.answer_budget < 0:
            raise InvalidInput(
                f"answer_budget is {self.answer_budget}, it must be 0 or more",
                field="answer_budget",
                reason="BAD_NUMBER",
            )
        if not 1 <= self.min_answers <= self.max_answers:
            raise InvalidInput(
                f"min_answers {self.min_answers} and max_answers {self.max_answers} must be 1 or more and in order",
                field="min_answers",
            )


def _no_indexes() -> NDArray[np.int64]:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class AnswerChunk:
    """Some answers, column by column; names are sent once and then by index.

    Attributes:
        new_images, new_workers, new_labels, new_jobs: names not named in an earlier chunk; their indexes go on.
        images, workers: i64[N] indexes.
        label_counts: i64[N] labels an answer; `labels` i64[sum] holds them one after another.
        states: u8[N] index into `STATES`, or None when all are answered.
        jobs: i64[N] indexes, or None when jobs do not matter.
        previous: the answers are of earlier jobs.
        seconds: f32[N] seconds an answer took, negative where unknown; None when no times were measured.
    """

    new_images: Sequence[str] = ()
    new_workers: Sequence[str] = ()
    new_labels: Sequence[str] = ()
    new_jobs: Sequence[str] = ()
    images: NDArray[np.int64] = field(default_factory=_no_indexes)
    workers: NDArray[np.int64] = field(default_factory=_no_indexes)
    label_counts: NDArray[np.int64] = field(default_factory=_no_indexes)
    labels: NDArray[np.int64] = field(default_factory=_no_indexes)
    states: NDArray[np.uint8] | None = None
    jobs: NDArray[np.int64] | None = None
    previous: bool = False
    seconds: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class GoldChunk:
    """Some known answers: image id and its right labels (empty: none of these).

    Attributes:
        drawn_at_random: the images were drawn uniformly from those to be labeled; only such gold calibrates.
    """

    gold: Sequence[tuple[str, tuple[str, ...]]]
    drawn_at_random: bool = False


@dataclass(frozen=True, slots=True)
class AuditChunk:
    """Some of an expert's judgments of the audit's images, as in `GoldChunk`."""

    judged: Sequence[tuple[str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True)
class ModelChunk:
    """What an image model says of N images.

    Attributes:
        images: ids; those that nobody answered do no harm.
        classes: K names.
        probability: f32[N, K], rows sum to 1; a row of NaN says nothing.
    """

    images: Sequence[str]
    classes: tuple[str, ...]
    probability: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StatePart:
    """A part of a state, in order."""

    data: bytes


Message = AggregateSpec | PlanSpec | AnswerChunk | GoldChunk | AuditChunk | ModelChunk | StatePart
"""What a caller streams: a spec first, then chunks."""


@dataclass(frozen=True, slots=True)
class ItemVerdict(LabelEstimate):
    """A label estimate with what only aggregation knows.

    Attributes:
        job: the image's job; set in compat only, where image and job together name an image.
        description: the original's text, as `cat (2 / 3)`; set by agreement and compat.
        gold: whether the label is the known one.
        audit_place: place in the audit's sample, from 1; 0 when not drawn.
    """

    job: str = ""
    description: str = ""
    gold: bool = False
    audit_place: int = 0


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """What is known of one worker.

    Attributes:
        answers: votes counted.
        reliability: agreement with the others, own vote left out, in [0, 1] (compat: the original's mean); None when
            unknown.
        low, high: its 95 % Wilson interval, in [0, 1].
        gold_accuracy: share of gold images answered right, in [0, 1]; None without any.
        gold_answers: gold images answered.
        compat_count: certain images divided by 20, rounded down; the original's count, set in compat.
        estimated_accuracy: by the method's model, in [0, 1]; None when it has none.
        confusion: f64[K, K] row = true label, column = given label; None when the method has none.
        one_label_share: share of the votes that gave the worker's commonest label, in [0, 1]; None with several labels.
        spammer_score: how far the confusion tells classes apart, in [0, 1]: 0 = answers without looking, 1 = always
            right (or always wrong in the same way); None without a confusion. With few answers it says little.
        estimated_low, estimated_high: 95 % interval of the estimated accuracy, as if the model were right.
        too_fast_share: share of the timed answers given in less than a fifth of the typical worker's median time;
            None without times.
        image_model: whether this is no person but the image model.
    """

    worker_id: str
    answers: int
    reliability: float | None
    low: float
    high: float
    gold_accuracy: float | None
    gold_answers: int
    verdict: Verdict
    compat_count: int = 0
    estimated_accuracy: float | None = None
    confusion: NDArray[np.float64] | None = None
    one_label_share: float | None = None
    spammer_score: float | None = None
    estimated_low: float = 0.0
    estimated_high: float = 1.0
    too_fast_share: float | None = None
    image_model: bool = False

    @property
    def gold_interval(self) -> tuple[float, float] | None:
        """95 % Wilson interval of the gold accuracy; None without gold answers."""
        if self.gold_accuracy is None:
            return None
        low, high = wilson_interval(self.gold_accuracy * self.gold_answers, self.gold_answers)
        return float(low), float(high)


@dataclass(frozen=True, slots=True)
class AggregateSummary:
    """What was done. Fields are those of the contract's AggregateSummary; alpha and raw_agreement may be NaN.

    Attributes:
        estimated_error: share of certain labels that the model takes for wrong; a model estimate, not a bound.
    """

    method: str
    explanation: str
    classes: tuple[str, ...]
    images: int
    answers: int
    repeated_answers: int = 0
    abstentions: int = 0
    unreliable_answers: int = 0
    iterations: int = 0
    converged: bool = True
    alpha: float = float("nan")
    raw_agreement: float = float("nan")
    warnings: tuple[str, ...] = ()
    state: bytes = b""
    calibration: Calibration | None = None
    audit: Audit | None = None
    estimated_error: float = float("nan")


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far workers agree; NaN where undefined.

    Attributes:
        raw: share of answer pairs of one image that agree, in [0, 1].
        alpha: Krippendorff's alpha for nominal data, at most 1.
        kappa: Fleiss' kappa over the images with the most common number of answers.
        images: images with at least two votes; `answers` votes on them.
    """

    raw: float
    alpha: float
    kappa: float
    images: int
    answers: int


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """An image that needs another answer.

    Attributes:
        answers_needed: expected until it is certain, rounded up; at least 1.
        confidence: probability of its present label.
        reason: why it is asked again, in words.
    """

    image_id: str
    answers_needed: int
    confidence: float
    reason: str


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """What a plan costs and brings; both accuracies are a model estimate, not a bound."""

    images: int
    answers: int
    accuracy_now: float
    accuracy_after: float


@dataclass(frozen=True, slots=True)
class MethodInfo:
    """A method as offered."""

    name: str
    purpose: str
    multi_label: bool
    source: str
    needs_multi_label: bool = False


def json_number(value: float) -> Any:
    """The number, or None for NaN, which JSON does not have."""
    return None if value != value else value


def counted(number: int, thing: str) -> str:
    """As `1 image` or `1,200 images`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
