# SPDX-License-Identifier: GPL-3.0-or-later
"""What the job controller can be told: `GANDT_JOBCONTROLLER__<KEY>` or `[jobcontroller]` in gandt.toml."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.runtime.service_settings import ObjectSettings, ServiceSettings

LOCAL_LAMBDA = "arn:aws:lambda:local-1:000000000000:function:"


class Settings(ObjectSettings, ServiceSettings):
    """Settings of the job controller. The defaults are those of one machine with our own labeling service."""

    model_config = SettingsConfigDict(env_prefix="GANDT_JOBCONTROLLER__")

    port: int = Field(default=50055, ge=0, le=65535, description="Service port; 0 takes a free one.")
    health_port: int | None = Field(
        default=50065,
        ge=0,
        le=65535,
        description="Plaintext health for probes; 0 takes a free one, empty turns it off.",
    )
    metrics_port: int | None = Field(
        default=9055, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    database_url: str = Field(
        default="",
        description="SQLAlchemy URL of the loop's state. Empty: controller.db in data_dir (SQLite). "
        "postgresql+psycopg://... on a cluster, where several controllers share it.",
    )
    bucket: str = Field(
        default="gandt", description="Bucket of thumbnails, manifests, templates and the labeling backend's output."
    )
    dataset: str = Field(
        default="images",
        pattern=r"[A-Za-z_][A-Za-z0-9_]{0,199}",
        description="Begins the names of vector collections. Change it where projects share one vector store.",
    )
    backend: str = Field(
        default="labeling",
        pattern=r"labeling|ground-truth|https?://.*",
        description="Who gets pages labeled: `labeling` for our labeling service, `ground-truth` for AWS, or the URL "
        "of another endpoint that speaks the SageMaker API.",
    )
    region: str = Field(default="local-1", description="Region of the labeling backend; an AWS one for Ground Truth.")
    access_key_id: str = Field(
        default="",
        description="Access key of the labeling backend. Empty: for AWS boto3's usual places, else a dummy key.",
    )
    secret_access_key: SecretStr = Field(default=SecretStr(""), description="Secret of access_key_id.")
    role_arn: str = Field(
        default="arn:aws:iam::000000000000:role/gandt", description="Role that labeling jobs run as (JobRole of SAM)."
    )
    workteam_arn: str = Field(
        default="arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
        description="Who labels, unless a campaign says otherwise.",
    )
    pre_lambda_arn: str = Field(
        default=f"{LOCAL_LAMBDA}gandt-pre-LabelingFunction", description="Pre-annotation Lambda."
    )
    post_lambda_arn: str = Field(
        default=f"{LOCAL_LAMBDA}gandt-post-LabelingFunction", description="Annotation consolidation Lambda."
    )
    job_prefix: str = Field(
        default="gt-",
        pattern=r"[a-z0-9][a-z0-9-]{0,20}",
        description="Begins every labeling job's name. One for each deployment that shares an AWS account and region.",
    )
    template_file: Path | None = Field(
        default=None, description="Liquid page that workers see. Empty: the grid that comes with the labeling service."
    )
    poll_seconds: float = Field(
        default=1.0,
        gt=0,
        le=600,
        description="Time between two questions about a running labeling job, in seconds. 15 to 60 against AWS, which "
        "throttles; below 1 on one machine shows progress sooner.",
    )
    events_queue_url: str = Field(
        default="",
        description="SQS queue on which Ground Truth says that a job has ended (JobStateQueueUrl of "
        "lambdas/template.yaml). Empty: jobs are only asked, every poll_seconds.",
    )
    target_confidence: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Probability that a label must reach before an image is asked no more (where a campaign allows "
        "more workers an image than it begins with).",
    )
