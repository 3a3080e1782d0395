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
    approximate_above_rows: int = Field(
        default=200_000,
        ge=0,
        description="Collections with more rows get an approximate index (HNSW) in the background; searches without a "
        "filter then take about 2 ms through gRPC (measured at 100,000 x 512, recall 0.99), may miss a neighbor and "
        "say so. 0 keeps every search exact, at "
        "about a millisecond for each 6,000 vectors of dim 512. The index takes a third of the vectors' memory more, "
        "which counts into max_resident_bytes.",
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
    durability: Literal["process", "fsync"] = Field(
        default="process",
        description="What an acknowledged write survives: the end of the process, or with fsync also the loss of power "
        "(Milvus Lite then syncs its log with every batch). Choose fsync for imported vectors that cannot be made "
        "again.",
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
    milvus_client_cert_file: Path | None = Field(
        default=None, description="PEM of our own certificate, for a Milvus server that asks for one (mutual TLS)."
    )
    milvus_client_key_file: Path | None = Field(default=None, description="PEM of the key of our own certificate.")
    milvus_server_name: str = Field(
        default="", description="Name in the Milvus server's certificate where it is not the host of `milvus_uri`."
    )
    milvus_database: str = Field(default="", description="Database on the Milvus server; empty is its default.")
    milvus_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest wait for one answer of the Milvus server; within it a call is tried again while the "
        "server is away. Raise it for large indexes on disk.",
    )
    milvus_consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = Field(
        default="Bounded",
        description="What searches on a Milvus server see of recent writes. Bounded may miss those of the last seconds "
        "and does not wait; Strong sees all. Fetch, Scan, FindNearDuplicates and exact searches are always Strong.",
    )
    milvus_index: Literal[
        "FLAT",
        "HNSW",
        "HNSW_SQ",
        "HNSW_PQ",
        "IVF_FLAT",
        "IVF_SQ8",
        "IVF_PQ",
        "IVF_RABITQ",
        "SCANN",
        "DISKANN",
        "AUTOINDEX",
    ] = Field(
        default="FLAT",
        description="Index of new collections on a Milvus server. FLAT is exact and good to about 200,000 vectors, "
        "HNSW to some millions; answers of all but FLAT are approximate and say so.",
    )
    milvus_index_params: dict[str, int | float | bool | str] = Field(
        default_factory=dict,
        description='Build parameters by Milvus\' names, as JSON: {"M": 16, "efConstruction": 200}. A server that '
        "does not take one is refused.",
    )
    milvus_search_params: dict[str, int | float | bool | str] = Field(
        default_factory=dict, description='Search parameters by Milvus\' names, as JSON: {"ef": 64}.'
    )
    milvus_partition_field: str = Field(
        default="",
        pattern=r"^([A-Za-z_][A-Za-z0-9_]{0,254})?$",
        description="Field of items whose text parts new collections on a Milvus server; empty for none. Choose one "
        "that most searches filter by: they then look into its parts only.",
    )
    milvus_partitions: int = Field(
        default=16, ge=1, le=1024, description="Parts of a collection that has a partition field."
    )
