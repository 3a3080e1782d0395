# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables of the job store. Times are microseconds since 1970 (UTC), money is millionths of a US dollar, lists are JSON.

Changes go through a new file in sql_jobs_migrations/versions; a contract test compares both.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text, UniqueConstraint

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite gives only an INTEGER PRIMARY KEY its own numbers; PostgreSQL should get 64 bits.
Serial = BigInteger().with_variant(Integer, "sqlite")


def _text(name: str, default: str = "") -> Column[str]:
    return Column(name, Text, nullable=False, server_default=default)


def _count(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


def _real(name: str) -> Column[float]:
    return Column(name, Float, nullable=False, server_default="0")


facts = Table("facts", metadata, Column("name", Text, primary_key=True), _text("value"))
leases = Table("leases", metadata, Column("name", Text, primary_key=True), _text("holder"), _count("expires_at"))

images = Table(
    "images",
    metadata,
    Column("image_id", Text, primary_key=True),
    _count("width"),
    _count("height"),
    _text("format"),
    _count("size"),
    _text("thumbnail_uri"),
    Column("arrived", BigInteger, nullable=True),  # rounds that there were when it first got a vector
)
files = Table(
    "files",
    metadata,
    Column("uri", Text, primary_key=True),
    Column("image_id", Text, nullable=False, index=True),
    Column("name", Text, nullable=False, index=True),  # last part of the path
    _count("size"),
    _text("etag"),
)
folders = Table("folders", metadata, Column("uri", Text, primary_key=True))
vectors = Table(
    "vectors",
    metadata,
    Column("collection", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
)
near_groups = Table(
    "near_groups",
    metadata,
    Column("collection", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
    _count("generation"),
    _text("group_id"),
)
known_labels = Table(
    "known_labels",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
    _text("labels", "[]"),
)

campaigns = Table(
    "campaigns",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("campaign_id", Text, nullable=False, unique=True),
    Column("request_id", Text, nullable=True, unique=True),
    _text("spec"),
    _count("budget"),
    _text("state"),
    _text("resume_state"),
    _text("message"),
    _count("created_at"),
    _count("updated_at"),
    _count("version"),
)
rounds = Table(
    "rounds",
    metadata,
    Column("round_id", Text, primary_key=True),
    Column("campaign_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("request_id", Text, nullable=True, unique=True),
    _text("state"),
    _text("strategy"),
    _text("explanation"),
    _text("warnings", "[]"),
    _text("pending", "[]"),
    _count("created_at"),
    _count("version"),
    _count("ordinal"),  # rounds of all campaigns that were there before it
    _count("planned"),
    _text("draws", "[]"),
    UniqueConstraint("campaign_id", "number"),
)
picks = Table(
    "picks",
    metadata,
    Column("round_id", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
    Column("campaign_id", Text, nullable=False),
    _count("rank"),
    _real("score"),
    _text("reason"),
    _text("arm"),
    _real("inclusion_probability"),
    _count("pool_size"),
    Column("part", BigInteger, nullable=False, server_default="1"),
    Column("stratum", BigInteger, nullable=False, server_default="1"),
    Index("ix_picks_campaign_image", "campaign_id", "image_id"),
)
jobs = Table(
    "jobs",
    metadata,
    Column("sequence", Serial, primary_key=True, autoincrement=True),
    Column("job_name", Text, nullable=False, unique=True),
    Column("request_id", Text, nullable=True, unique=True),
    Column("round_id", Text, nullable=False, index=True),
    Column("campaign_id", Text, nullable=False, index=True),
    _text("state"),
    _text("message"),
    _text("request"),
    _text("spec_sha256"),
    _count("attempt"),
    _text("arn"),
    _text("output_manifest_uri"),
    _count("images"),
    _count("pages"),
    _count("workers_per_page"),
    _count("pages_labeled"),
    _count("pages_failed"),
    _count("tries"),
    Column("next_try_at", BigInteger, nullable=True),
    _count("created_at"),
    _count("version"),
)
job_images = Table(
    "job_images",
    metadata,
    Column("job_name", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
    _text("page"),
    _count("failed"),  # how often its page failed or was not reached; more when it is given up at once
)
ledger = Table(
    "ledger",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("campaign_id", Text, nullable=False, index=True),
    Column("job_name", Text, nullable=False),
    Column("entry", Text, nullable=False),  # reserve, settle or release
    _count("amount"),
    _count("at"),
    UniqueConstraint("job_name", "entry"),
)

answers = Table(
    "answers",
    metadata,
    Column("job_sequence", BigInteger, primary_key=True),
    Column("image_id", Text, primary_key=True),
    Column("worker_id", Text, primary_key=True),
    Column("campaign_id", Text, nullable=False),
    Column("job_name", Text, nullable=False),
    _text("labels", "[]"),
    _text("state"),
    _text("page"),
    Column("answered_at", BigInteger, nullable=True),
    Column("seconds", Float, nullable=True),
    Index("ix_answers_campaign_image", "campaign_id", "image_id"),
    Index("ix_answers_worker", "worker_id"),
)
answer_jobs = Table(
    "answer_jobs",
    metadata,
    Column("sequence", Serial, primary_key=True, autoincrement=True),
    Column("campaign_id", Text, nullable=False),
    Column("job_name", Text, nullable=False),
    UniqueConstraint("campaign_id", "job_name"),
)
quarantine = Table(
    "quarantine",
    metadata,
    Column("job_name", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    _text("uri"),
    _text("rule"),
    _text("excerpt"),
)
labels = Table(
    "labels",
    metadata,
    Column("campaign_id", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
    _text("labels", "[]"),
    _real("confidence"),
    _text("status"),
    _count("answers"),
    _count("agreeing"),
    _text("source"),
    _count("is_target"),
)
reviews = Table(
    "reviews",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("campaign_id", Text, nullable=False),
    Column("image_id", Text, nullable=False),
    _text("labels", "[]"),
    _text("reviewer"),
    _count("at"),
)
workers = Table(
    "workers",
    metadata,
    Column("campaign_id", Text, primary_key=True),
    Column("worker_id", Text, primary_key=True),
    _count("answers"),
    _real("reliability"),
    _real("low"),
    _real("high"),
    _real("gold_accuracy"),
    _text("verdict"),
    *(
        Column(name, Float, nullable=False, server_default="-1")
        for name in (
            "estimated_accuracy",
            "estimated_low",
            "estimated_high",
            "one_label_share",
            "spammer_score",
            "too_fast_share",
        )
    ),
)
forgotten = Table(
    "forgotten", metadata, Column("worker_sha256", Text, primary_key=True), _text("new_worker_id"), _count("at")
)
embedding_jobs = Table(
    "embedding_jobs",
    metadata,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("embedding_job_id", Text, nullable=False, unique=True),
    Column("request_id", Text, nullable=True, unique=True),
    _text("state"),
    _text("message"),
    _text("model_id"),
    _text("collection"),
    _count("total"),
    _count("embedded"),
)
embedding_rejects = Table(
    "embedding_rejects",
    metadata,
    Column("embedding_job_id", Text, primary_key=True),
    Column("image_id", Text, primary_key=True),
    _text("uri"),
    _text("reason"),
    _text("message"),
)
