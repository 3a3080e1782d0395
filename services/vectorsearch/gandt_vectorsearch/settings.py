# SPDX-License-Identifier: GPL-3.0-or-later
"""What the vector search service can be told."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from gandt.runtime.service_settings import ServiceSettings


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
    duplicate_graph_above_rows: int = Field(
        default=200_000,
        ge=0,
        description="Among more items than these near-duplicates are looked for by a graph of nearest neighbors, which "
        "takes minutes instead of hours, may miss some and says so; a request can ask for all. 0 always compares all.",
    )
    milvus_uri: str = Field(
        default="",
        description="Milvus server, as http://host:19530 or https://host. Empty keeps the vectors here, in Milvus "
        "Lite. Set it when the vectors outgrow one machine's memory.",
    )
    milvus_token: SecretStr | None = Field(default=None, description="user:password or API key of the Milvus server.")
    milvus_ca_file: Path | None = Field(
        default=None, description="PEM that an https:// Milvus server is checked against; empty takes the system's."
    )
    milvus_database: str = Field(default="", description="Database on the Milvus server; empty is its default.")
    milvus_index: Literal["FLAT", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8", "IVF_RABITQ", "DISKANN", "AUTOINDEX"] = (
        Field(
            default="FLAT",
            description="Index of new collections on a Milvus server. FLAT is exact and good to about 200,000 vectors, "
            "HNSW to some millions; answers of all but FLAT are approximate and say so.",
        )
    )
    milvus_index_params: dict[str, int] = Field(
        default_factory=dict,
        description='Build parameters by Milvus\' names, as JSON: {"M": 16, "efConstruction": 200}.',
    )
    milvus_search_params: dict[str, int] = Field(
        default_factory=dict, description='Search parameters by Milvus\' names, as JSON: {"ef": 64}.'
    )
