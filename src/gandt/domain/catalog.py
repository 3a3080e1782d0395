# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of the image catalog: images by content, the files that they were found in, and labels known beforehand."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class CatalogImage:
    """An image of the catalog.

    Attributes:
        image_id: lower-case hex SHA-256 of the bytes.
        width, height: pixels after EXIF rotation.
        format: JPEG, PNG, ...
        size: bytes.
        thumbnail_uri: s3:// URI of its thumbnail.
        uris: every path that it was found under, sorted.
        embedded: whether its vector is in the collection in use.
    """

    image_id: str
    width: int
    height: int
    format: str
    size: int
    thumbnail_uri: str
    uris: tuple[str, ...] = ()
    embedded: bool = False


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """A file that was read; size and etag tell whether it has changed since."""

    uri: str
    size: int
    etag: str
    image_id: str


class LabelKind(StrEnum):
    """What an imported label is for."""

    SEED = "seed"
    GOLD = "gold"
    TRUTH = "truth"


@dataclass(frozen=True, slots=True)
class KnownLabel:
    """Labels of an image that were known before anybody was asked."""

    image_id: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StoredLabel:
    """What the catalog says of one image's labels, with the history of the pick.

    Attributes:
        source: seed, workers or review.
        status: certain, uncertain, tied or unlabeled.
        round: round of the pick, from 1; 0 for a seed.
    """

    image_id: str
    labels: tuple[str, ...]
    confidence: float
    status: str
    answers: int = 0
    agreeing: int = 0
    source: str = "workers"
    arm: str = ""
    round: int = 0
    inclusion_probability: float = 0.0
    reason: str = ""
    uris: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """What is known of a worker of a campaign; -1 where nothing is known."""

    worker_id: str
    answers: int
    reliability: float = -1.0
    low: float = -1.0
    high: float = -1.0
    gold_accuracy: float = -1.0
    verdict: str = "unknown"
    estimated_accuracy: float = -1.0
    estimated_low: float = -1.0
    estimated_high: float = -1.0
    one_label_share: float = -1.0
    spammer_score: float = -1.0
    too_fast_share: float = -1.0


@dataclass(frozen=True, slots=True)
class QuarantinedAnswer:
    """An answer that could not be understood; kept apart, at most 500 bytes of it."""

    job_name: str
    uri: str
    rule: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class RejectedFile:
    """A file or image that was refused, with the cause."""

    uri: str
    reason: str
    message: str


class EmbeddingState(StrEnum):
    """Where an embedding job stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """An embedding job as it is; counts are images."""

    embedding_job_id: str
    state: EmbeddingState
    model_id: str
    collection: str
    total: int
    embedded: int = 0
    failed: int = 0
    message: str = ""
    rejected: tuple[RejectedFile, ...] = ()
