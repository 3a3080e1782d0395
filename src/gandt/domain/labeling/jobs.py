# SPDX-License-Identifier: GPL-3.0-or-later
"""A labeling job: what is asked of the backend, under which name, and how far it is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

MAX_SLUG = 44  # 44 + "-r9999" + "-" + 12 = 63, the longest name that the API takes


class JobState(StrEnum):
    """Where a labeling job stands; the last two are final."""

    INTENT = "intent"
    CREATED = "created"
    IN_PROGRESS = "in_progress"
    STOPPING = "stopping"
    COLLECTING = "collecting"
    SETTLED = "settled"
    REFUSED = "refused"

    @property
    def is_final(self) -> bool:
        """Whether answers are in and money is settled."""
        return self in (JobState.SETTLED, JobState.REFUSED)


class BackendState(StrEnum):
    """LabelingJobStatus of the API."""

    INITIALIZING = "Initializing"
    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"
    UNKNOWN = "Unknown"

    @property
    def is_final(self) -> bool:
        """Whether the output manifest is as complete as it will get."""
        return self in (BackendState.COMPLETED, BackendState.FAILED, BackendState.STOPPED)


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What DescribeLabelingJob says. Counters are hints; only the output manifest is truth.

    Attributes:
        labeled, failed, unlabeled: manifest lines by outcome.
        output_manifest_uri: s3:// URI of output.manifest; "" while unknown.
    """

    state: BackendState
    arn: str = ""
    labeled: int = 0
    failed: int = 0
    unlabeled: int = 0
    failure_reason: str = ""
    output_manifest_uri: str = ""
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobRequest:
    """Everything that CreateLabelingJob is told; written down before the call is made."""

    job_name: str
    manifest_uri: str
    output_uri: str
    template_uri: str
    role_arn: str
    workteam_arn: str
    pre_lambda_arn: str
    post_lambda_arn: str
    title: str
    description: str
    workers: int
    time_limit_seconds: int
    availability_seconds: int
    max_objects: int
    tags: dict[str, str]
    label_attribute: str = "labels"
    keywords: tuple[str, ...] = ("images", "labels")

    def to_json(self) -> str:
        """The request as text for the intent row."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> JobRequest:
        """The request of an intent row."""
        fields = json.loads(text)
        fields["keywords"] = tuple(fields["keywords"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class LabelingJob:
    """A labeling job as it is.

    Attributes:
        sequence: grows over all jobs of the store; order of creation.
        attempt: how often the name had to be replaced, from 0.
        tries: failed attempts at the step that the job is in (poll, collect).
        next_try_at: when that step may be tried again; None means now.
        reserved, cost: millionths of a US dollar.
    """

    job_name: str
    round_id: str
    campaign_id: str
    state: JobState
    request: JobRequest
    spec_sha256: str
    images: int
    pages: int
    workers_per_page: int
    created_at: datetime
    sequence: int = 0
    message: str = ""
    attempt: int = 0
    arn: str = ""
    output_manifest_uri: str = ""
    pages_labeled: int = 0
    pages_failed: int = 0
    answers: int = 0
    reserved: int = 0
    cost: int = 0
    tries: int = 0
    next_try_at: datetime | None = None
    version: int = 1


@dataclass(frozen=True, slots=True)
class JobReport:
    """A labeling job as callers see it; fields as in `LabelingJob`.

    Attributes:
        work_url: page where people label; "" when the backend has none.
    """

    job_name: str
    round_id: str
    campaign_id: str
    state: JobState
    message: str
    images: int
    pages: int
    workers_per_page: int
    pages_labeled: int
    pages_failed: int
    answers: int
    reserved: int
    cost: int
    work_url: str
    created_at: datetime


def spec_sha256(parts: dict[str, Any]) -> str:
    """Lower-case hex SHA-256 over the canonical JSON (sorted keys, no spaces) of what makes a job this job."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def job_name(prefix: str, campaign: str, round_number: int, sha256: str) -> str:
    """`<slug>-r<round>-<hash12>`, lower case, at most 63 characters.

    Example:
        >>> job_name("gt-", "parties", 1, "3f9c2a7b10de5f0a")
        'gt-parties-r1-3f9c2a7b10de'
    """
    letters = "".join(c if c.isascii() and c.isalnum() else "-" for c in f"{prefix}{campaign}".lower())
    slug = "-".join(part for part in letters.split("-") if part)[:MAX_SLUG].rstrip("-")
    return f"{slug}-r{round_number}-{sha256[:12]}"
