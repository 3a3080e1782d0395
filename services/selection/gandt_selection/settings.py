# SPDX-License-Identifier: GPL-3.0-or-later
"""What the selection service can be told."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gandt.runtime.service_settings import ObjectSettings, ServiceSettings


class Settings(ObjectSettings, ServiceSettings):
    """Section `[selection]`, environment `GANDT_SELECTION__<KEY>`."""

    model_config = SettingsConfigDict(env_prefix="GANDT_SELECTION__")

    port: int = Field(default=50053, ge=0, le=65535, description="Service port; 0 takes a free one.")
    health_port: int | None = Field(
        default=50063,
        ge=0,
        le=65535,
        description="Plaintext health for probes; 0 takes a free one, empty turns it off.",
    )
    metrics_port: int | None = Field(
        default=9053, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    max_resident_bytes: int = Field(
        default=128 << 20,
        ge=0,
        description="Bytes of vectors that one call holds in memory; larger pools lie in a temporary file meanwhile. "
        "Raise it where temporary files are slow and memory is there.",
    )
    remembered_requests: int = Field(
        default=64,
        ge=0,
        description="Answers kept by request_id, so that a repeated Select gets the same picks. 0 keeps none.",
    )
