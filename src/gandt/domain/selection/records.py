# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers ask of selection and what they get: requests, picks, decisions and summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import Arm, LabeledImage
from gandt.domain.filters import Filter
from gandt.domain.vectors import VectorSet

MAX_COUNT = 1_000_000
DEFAULT_CONTROL_FRACTION = 0.1


@dataclass(frozen=True, slots=True)
class PoolSource:
    """Where the vectors are; exactly one of collection, vectors_uri and inline_dim is given.

    Attributes:
        collection: collection of the vector search service.
        vectors_uri: s3:// URI of vectors.parquet or of a folder of its parts.
        inline_dim: numbers in a vector when the caller sends the vectors himself; 0 otherwise.
        condition: what pool images must meet (collection only); None keeps all.
        model_id: fingerprint that the source must have; "" is not checked.
    """

    collection: str = ""
    vectors_uri: str = ""
    inline_dim: int = 0
    condition: Filter | None = None
    model_id: str = ""


@dataclass(frozen=True, slots=True)
class SelectSpec:
    """What to select; see the contract's SelectSpec.

    Attributes:
        strategy: a strategy's name; "" means auto.
        target_labels: labels to find more of.
        other_label: the label that means "none of these"; "" when there is none.
        count: images to pick, 1 to 1,000,000.
        control_fraction: share of count that is drawn uniformly, in [0, 1].
        seed, round: all randomness; rounds count from 1.
        max_per_group: picks of one near-duplicate group.
        per_class_count: class name to images, for balance.
        request_id: same id, same answer; "" is not remembered.
        found_before: target images found before this round; recorded, not used.
    """

    pool: PoolSource = field(default_factory=PoolSource)
    strategy: str = ""
    target_labels: tuple[str, ...] = ()
    other_label: str = ""
    count: int = 20
    control_fraction: float = DEFAULT_CONTROL_FRACTION
    seed: int = 0
    round: int = 1
    max_per_group: int = 1
    per_class_count: Mapping[str, int] = field(default_factory=dict)
    request_id: str = ""
    found_before: int = 0


@dataclass(frozen=True, slots=True)
class FilterSpec:
    """What to discard; exactly one of the three rules is given.

    Attributes:
        discard_share: discard exactly this share of the decidable pool, in [0, 1].
        max_loss_share: discard as much as loses at most this share of wanted images, in [0, 1].
        min_proportion: the original's rule and its min_proportion_to_discard, in [0, 1].
        target_labels: labels that are wanted; () means all but other_label.
        audit: discarded images to draw uniformly for a look, 0 to 10,000.
        seed: of the audit draw.
    """

    pool: PoolSource = field(default_factory=PoolSource)
    other_label: str = "Other"
    discard_share: float | None = None
    max_loss_share: float | None = None
    min_proportion: float | None = None
    target_labels: tuple[str, ...] = ()
    audit: int = 0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class EvaluateSpec:
    """What to replay on images whose labels are all known.

    Attributes:
        strategies: names to compare; () compares all that fit.
        target_labels: labels to find.
        batch_size: images a round.
        initial_positives, initial_others: images known at the start.
        recall_target: share of the other targets to be found, in (0, 1].
        repetitions: runs with other starts.
    """

    pool: PoolSource = field(default_factory=PoolSource)
    strategies: tuple[str, ...] = ()
    target_labels: tuple[str, ...] = ()
    other_label: str = ""
    batch_size: int = 20
    initial_positives: int = 5
    initial_others: int = 20
    recall_target: float = 0.8
    repetitions: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class InputChunk:
    """A piece of what follows the spec.

    Attributes:
        labeled: images with known labels.
        excluded: images that must not be picked and are not counted as pool.
        vectors: of pool and labeled images alike, when the caller sends them himself.
        groups: image id to near-duplicate group.
    """

    labeled: tuple[LabeledImage, ...] = ()
    excluded: tuple[str, ...] = ()
    vectors: VectorSet | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StrategyInfo:
    """A way of choosing, as offered: its name, its purpose in a sentence, and what it needs."""

    name: str
    purpose: str
    needs_labels: bool = False
    needs_targets: bool = False


@dataclass(frozen=True, slots=True)
class Neighbor:
    """A labeled image near to a pick; similarity is the cosine in [-1, 1]."""

    image_id: str
    labels: tuple[str, ...]
    similarity: float


@dataclass(frozen=True, slots=True)
class Pick:
    """An image to label.

    Attributes:
        rank: from 1, in the order in which labels are worth most.
        score: the strategy's; larger is better; comparable within one answer only.
        reason: one sentence that says why.
        inclusion_probability: chance with which it was drawn; 1 for main picks.
        pool_size: unlabeled images that the draw was made from.
        neighbors: nearest labeled images, nearest first, at most 3.
        predicted_label: most likely label by the model; "" when there is none.
        predicted_probability: of predicted_label, in [0, 1]; not calibrated.
        group_id: near-duplicate group; "" when on its own.
    """

    image_id: str
    rank: int
    score: float
    reason: str
    arm: Arm
    inclusion_probability: float
    pool_size: int
    round: int
    neighbors: tuple[Neighbor, ...] = ()
    predicted_label: str = ""
    predicted_probability: float = 0.0
    group_id: str = ""


@dataclass(frozen=True, slots=True)
class SelectSummary:
    """What was done, and what could not be; see the contract's SelectSummary."""

    strategy: str
    explanation: str
    scanned: int
    picked: int
    unusable_ids: tuple[str, ...] = ()
    unknown_ids: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SelectResult:
    """Picks in rank order and the summary."""

    picks: tuple[Pick, ...]
    summary: SelectSummary


class Decision(StrEnum):
    """What to do with a pool image."""

    KEEP = "keep"
    DISCARD = "discard"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class DecisionBlock:
    """Decisions of some images, column by column.

    Attributes:
        image_ids: N pool images, in the order in which they came.
        decisions: one an image.
        farther: i64[N], labels that the image is farther from than from other_label; 0 where undefined.
        distances: f64[N, C] trimmed mean cosine distances in [0, 2], labels as in the summary; NaN where undefined.
    """

    image_ids: Sequence[str]
    decisions: Sequence[Decision]
    farther: NDArray[np.int64]
    distances: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FilterSummary:
    """What the filter did.

    Attributes:
        labels: of the distance columns, ascending.
        threshold: count above which an image was discarded (the original's rule); -1 when none was reached, and for
            the other rules.
        estimated_loss: share of wanted images expected to be lost; -1 when unknown.
        loss_bound: share of wanted images lost at most, with 95 % confidence, by the control draws' wanted images
            alone; -1 when none is known.
        audit_ids: the uniform draw of discarded images, in the order drawn.
        audit_bound: when none of the audited images turns out wanted, at most this share of the discarded is, with
            95 % confidence; 1 without an audit.
    """

    labels: tuple[str, ...]
    kept: int
    discarded: int
    undecided: int
    threshold: float
    estimated_loss: float = -1.0
    loss_bound: float = -1.0
    audit_ids: tuple[str, ...] = ()
    audit_bound: float = 1.0
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvaluateRun:
    """Result of one strategy in one repetition; labels_to_target is 0 when the target was not reached."""

    strategy: str
    repetition: int
    labels_to_target: int
    found_by_round: tuple[int, ...]
    labels_by_round: tuple[int, ...]
