# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings that many services share: of any server, of a gRPC service, of what reads the object store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.runtime.settings import SectionSettings

MIB = 1 << 20


class ServerSettings(SectionSettings):
    """What every server can be told, whatever it speaks. Subclasses give `env_prefix` and their default ports."""

    host: str = Field(
        default="127.0.0.1",
        description="Address to listen on. Loopback by default; 0.0.0.0 in a container, then set a token or TLS.",
    )
    port: int = Field(default=0, ge=0, le=65535, description="Service port; 0 takes a free one.")
    metrics_port: int | None = Field(
        default=0, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    data_dir: Path = Field(
        default=Path(".gandt"),
        description="Folder for everything the service keeps. A volume in a container; .gandt in a project.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message that is logged. debug adds a line for each call."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json for collectors, text for reading in a terminal."
    )
    tls_cert_file: Path | None = Field(
        default=None, description="PEM certificate chain of this server. With tls_key_file it turns TLS on."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM private key of tls_cert_file.")
    tls_client_ca_file: Path | None = Field(
        default=None, description="PEM of the CA whose client certificates are asked for (mTLS)."
    )
    token: SecretStr | None = Field(
        default=None, description="Bearer token that every call must carry. None lets everybody in."
    )
    drain_seconds: float = Field(
        default=25.0,
        ge=0,
        description="Time for running calls after SIGTERM. Below the pod's termination grace (30 s).",
    )


class ServiceSettings(ServerSettings):
    """What every gRPC service can be told."""

    model_config = SettingsConfigDict(env_prefix="GANDT_SERVICE__")

    health_port: int | None = Field(
        default=0, ge=0, le=65535, description="Plaintext health for probes; 0 takes a free one, empty turns it off."
    )
    workers: int = Field(
        default=8,
        ge=1,
        le=1024,
        description="Threads for use cases. More helps when they wait for others, not the CPU.",
    )
    streams: int = Field(
        default=64, ge=1, le=4096, description="Streaming calls at once; each holds a thread while it lasts."
    )
    queue: int = Field(
        default=256, ge=0, description="Calls that may wait for a worker before new ones get RESOURCE_EXHAUSTED."
    )
    max_message_bytes: int = Field(
        default=33 * MIB, ge=1024, description="Largest message either way: 32 MiB and 1 MiB head room."
    )
    max_connection_age_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Age at which clients must reconnect and so notice new pods; 60 in a cluster. Running calls go on.",
    )
    reflection: bool = Field(default=True, description="Lets grpcurl list the methods. Off where that is unwanted.")


class ObjectSettings(SectionSettings):
    """Where `s3://` URIs lead; for the services that read or write objects."""

    objects: str = Field(
        default="",
        description="Where s3:// URIs lead: empty for the folder `objects` below data_dir, s3 for S3, or another "
        "folder. Credentials and region of S3 come from boto3's usual places.",
    )
    s3_endpoint_url: str = Field(
        default="", description="Endpoint of an S3 that is not Amazon's, such as MinIO. Only with objects = s3."
    )
