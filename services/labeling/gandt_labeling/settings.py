# SPDX-License-Identifier: GPL-3.0-or-later
"""What the labeling service can be told."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.runtime.service_settings import ObjectSettings, ServerSettings

LOCAL_LAMBDA = "arn:aws:lambda:local-1:000000000000:function:"


class Settings(ObjectSettings, ServerSettings):
    """`[labeling]` in gandt.toml, `GANDT_LABELING__<KEY>`."""

    model_config = SettingsConfigDict(env_prefix="GANDT_LABELING__")

    port: int = Field(default=8080, ge=0, le=65535, description="HTTP port for API and workers; 0 takes a free one.")
    health_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="/healthz and /readyz in plaintext on a port of their own, for probes beside TLS; 0 takes a free "
        "one. Empty: on the service's port only.",
    )
    metrics_port: int | None = Field(
        default=9056, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    token: SecretStr | None = Field(
        default=None,
        description="Operator's token, which opens /operate and its calls. Empty: made once and kept in data_dir.",
    )
    public_url: str = Field(
        default="",
        description="Origin under which workers reach the service, https://label.example.org; set it behind a proxy.",
    )
    database_url: str = Field(
        default="",
        description="SQLAlchemy URL of jobs, leases and answers. Empty: labeling.db in data_dir. "
        "postgresql+psycopg://... on a cluster.",
    )
    region: str = Field(default="local-1", description="Region in the ARNs of jobs.")
    account: str = Field(default="000000000000", pattern=r"[0-9]{12}", description="Account in the ARNs of jobs.")
    access_key_id: str = Field(
        default="", description="Access key that API and S3 calls must be signed with. Empty only on loopback."
    )
    secret_access_key: SecretStr = Field(default=SecretStr(""), description="Secret of access_key_id.")
    secret: SecretStr | None = Field(
        default=None,
        description="Key for invites, sessions and links, 16 bytes or more. Empty: made once and kept in data_dir. "
        "Set it where several processes or a rebuilt pod must know each other's links.",
    )
    lambdas: dict[str, str] = Field(
        default={
            f"{LOCAL_LAMBDA}gandt-pre-LabelingFunction": "gandt_lambdas.pre_annotation:lambda_handler",
            f"{LOCAL_LAMBDA}gandt-post-LabelingFunction": "gandt_lambdas.annotation_consolidation:lambda_handler",
        },
        description="Lambda handlers by ARN, as module:function. Add your own as JSON.",
    )
    inline_templates: bool = Field(
        default=True,
        description="Let a template's own inline scripts run, in the sandbox. Off when strangers may create jobs.",
    )
    not_found_as_validation: bool = Field(
        default=False, description="Answer ValidationException for unknown jobs, as AWS may. For testing clients."
    )
    batch_size: int = Field(default=50, ge=1, le=1000, description="Tasks in one consolidation call.")
    batch_seconds: float = Field(
        default=30.0, ge=0, description="How long finished tasks wait for a full batch. Less shows results sooner."
    )
    grace_seconds: float = Field(
        default=120.0, ge=0, description="How late a submit may come while nobody else has the page."
    )
    pre_seconds: float = Field(default=60.0, gt=0, description="Deadline of one pre-annotation call.")
    post_seconds: float = Field(default=300.0, gt=0, description="Deadline of one consolidation call.")
    poll_seconds: int = Field(
        default=2, ge=1, description="How soon a worker without a task asks again. More with thousands of workers."
    )
    max_pages_per_worker: int = Field(
        default=0, ge=0, description="Pages after which a worker gets no more until an operator says so; 0 is no cap."
    )
    least_page_seconds: float = Field(
        default=0.0,
        ge=0,
        description="A worker whose last five pages took less than this in the median is paused; 0 pauses nobody.",
    )
    max_object_bytes: int = Field(
        default=256 << 20, ge=1 << 20, description="Largest upload to /s3, in bytes; it is held in memory."
    )
