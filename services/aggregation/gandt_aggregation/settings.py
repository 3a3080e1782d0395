# SPDX-License-Identifier: GPL-3.0-or-later
"""What the aggregation service can be told: `GANDT_AGGREGATION__<KEY>` or `[aggregation]` in gandt.toml."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gandt.runtime.service_settings import ObjectSettings, ServiceSettings


class Settings(ObjectSettings, ServiceSettings):
    """Settings of the aggregation service."""

    model_config = SettingsConfigDict(env_prefix="GANDT_AGGREGATION__")

    port: int = Field(default=50054, ge=0, le=65535, description="Service port; 0 takes a free one.")
    health_port: int | None = Field(
        default=50064,
        ge=0,
        le=65535,
        description="Plaintext health for probes; 0 takes a free one, empty turns it off.",
    )
    metrics_port: int | None = Field(
        default=9054, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    max_answers: int = Field(
        default=20_000_000,
        ge=1,
        description="Most answers in one call; 10 million take about 3 GB. Raise it with the memory.",
    )
    max_stored_bytes: int = Field(
        default=4 << 30,
        ge=1,
        description="Most bytes of one stored table or Ground Truth output folder; a table is read into memory whole.",
    )
    max_images: int = Field(default=5_000_000, ge=1, description="Most images in one call.")
    max_workers: int = Field(default=1_000_000, ge=1, description="Most workers in one call.")
    max_classes: int = Field(
        default=10_000, ge=1, description="Most labels in one call; posteriors take images x labels x 8 bytes."
    )
