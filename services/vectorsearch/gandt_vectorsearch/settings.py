# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vector search service can be told."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from gandt.runtime.settings import ServiceSettings


class Settings(ServiceSettings):
    """Section `[vectorsearch]`, environment `GANDT_VECTORSEARCH__<KEY>`."""

    model_config = SettingsConfigDict(env_prefix="GANDT_VECTORSEARCH__")

    port: int = Field(default=50052, ge=0, le=65535, description="Service port; 0 takes a free one.")
    health_port: int | None = Field(
        default=50062,
        ge=0,
        le=65535,
        description="Plaintext health for probes; 0 takes a free one, empty turns it off.",
    )
    metrics_port: int | None = Field(
        default=9052, ge=0, le=65535, description="Prometheus /metrics; 0 takes a free one, empty turns it off."
    )
    max_resident_bytes: int = Field(
        default=4 << 30,
        ge=1,
        description="Most bytes of vectors held in memory, over all collections. Above it writes and the start are "
        "refused. Raise it up to half of the machine's memory; beyond, use a Milvus server or a projection.",
    )
    flush_rows: int = Field(
        default=10_000,
        ge=1,
        description="Rows written between two flushes of Milvus Lite. With more, writing is faster and the start after "
        "a kill slower.",
    )
