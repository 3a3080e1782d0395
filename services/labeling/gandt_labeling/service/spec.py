# SPDX-License-Identifier: GPL-3.0-or-later
"""What a labeling job was asked to do, read once from its CreateLabelingJob request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

THIRTY_DAYS = 2_592_000
CAMPAIGN_TAG = "gandt:campaign"
PAY_TAG = "gandt:pay-usd-micros"  # for one submitted page, to a private team

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A validated request; durations in seconds, `slots` = workers per task, "" where nothing was given."""

    name: str
    attribute: str
    manifest_uri: str
    output_uri: str
    role_arn: str
    kms_key_id: str
    template_uri: str
    label_categories_uri: str
    pre_lambda: str
    post_lambda: str
    title: str
    description: str
    slots: int
    time_limit: float
    availability: float
    max_open: int
    stop_after: int | None
    stop_percent: int | None

    def labeled_limit(self, total: int) -> int | None:
        """How many of `total` tasks may be labeled before the job stops itself; None without a condition."""
        limits = []
        if self.stop_after is not None:
            limits.append(self.stop_after)
        if self.stop_percent is not None:
            limits.append(math.ceil(total * self.stop_percent / 100))
        return min(limits) if limits else None

    @property
    def folder(self) -> str:
        """The S3 URI below which every output of the job lies, without a final slash."""
        return f"{self.output_uri.rstrip('/')}/{self.name}"

    @property
    def manifest_out(self) -> str:
        """S3 URI of the output manifest."""
        return f"{self.folder}/manifests/output/output.manifest"


def parse_spec(request: Mapping[str, Any]) -> JobSpec:
    """The spec of a request that passed validation."""
    human = request["HumanTaskConfig"]
    stopping = request.get("StoppingConditions", {})
    return JobSpec(
        name=request["LabelingJobName"],
        attribute=request["LabelAttributeName"],
        manifest_uri=request["InputConfig"]["DataSource"]["S3DataSource"]["ManifestS3Uri"],
        output_uri=request["OutputConfig"]["S3OutputPath"],
        role_arn=request["RoleArn"],
        kms_key_id=request["OutputConfig"].get("KmsKeyId", ""),
        template_uri=human["UiConfig"].get("UiTemplateS3Uri", ""),
        label_categories_uri=request.get("LabelCategoryConfigS3Uri", ""),
        pre_lambda=human.get("PreHumanTaskLambdaArn", ""),
        post_lambda=human.get("AnnotationConsolidationConfig", {}).get("AnnotationConsolidationLambdaArn", ""),
        title=human["TaskTitle"],
        description=human["TaskDescription"],
        slots=human["NumberOfHumanWorkersPerDataObject"],
        time_limit=float(human["TaskTimeLimitInSeconds"]),
        availability=float(human.get("TaskAvailabilityLifetimeInSeconds", THIRTY_DAYS)),
        max_open=human.get("MaxConcurrentTaskCount", 1000),
        stop_after=stopping.get("MaxHumanLabeledObjectCount"),
        stop_percent=stopping.get("MaxPercentageOfInputDatasetLabeled"),
    )


@dataclass(frozen=True, slots=True)
class Job:
    """One row of `jobs` with its spec."""

    job_id: int
    arn: str
    reference_code: str
    status: str
    failure_reason: str
    request: Json
    tags: dict[str, str]
    campaign: str
    template: str
    label_categories: list[str] | None
    created_at: float
    modified_at: float
    stop_at: float | None
    paused: bool
    spec: JobSpec

    @property
    def pay(self) -> int:
        """What a submitted page earns, in millionths of a US dollar: the public price, else the tag's, else 0."""
        price = self.request["HumanTaskConfig"].get("PublicWorkforceTaskPrice", {}).get("AmountInUsd", {})
        tenths = price.get("Dollars", 0) * 1000 + price.get("Cents", 0) * 10 + price.get("TenthFractionsOfACent", 0)
        tagged = self.tags.get(PAY_TAG, "0")
        return int(tenths * 1000 or (tagged if tagged.isdecimal() else 0))


def job_of(row: Row[Any]) -> Job:
    """The record of a `jobs` row."""
    request = json.loads(row.request)
    return Job(
        job_id=row.job_id,
        arn=row.arn,
        reference_code=row.reference_code,
        status=row.status,
        failure_reason=row.failure_reason,
        request=request,
        tags=json.loads(row.tags),
        campaign=row.campaign,
        template=row.template,
        label_categories=json.loads(row.label_categories) if row.label_categories else None,
        created_at=row.created_at,
        modified_at=row.modified_at,
        stop_at=row.stop_at,
        paused=bool(row.paused),
        spec=parse_spec(request),
    )
