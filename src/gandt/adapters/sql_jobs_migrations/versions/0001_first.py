# SPDX-License-Identifier: GPL-3.0-or-later
"""The first schema: catalog, campaigns, rounds, labeling jobs, money, answers and labels."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "answer_jobs",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_answer_jobs")),
        sa.UniqueConstraint("campaign_id", "job_name", name=op.f("uq_answer_jobs_campaign_id")),
    )
    op.create_table(
        "answers",
        sa.Column("job_sequence", sa.BigInteger(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="[]", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("page", sa.Text(), server_default="", nullable=False),
        sa.Column("answered_at", sa.BigInteger(), nullable=True),
        sa.Column("seconds", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("job_sequence", "image_id", "worker_id", name=op.f("pk_answers")),
    )
    op.create_index("ix_answers_campaign_image", "answers", ["campaign_id", "image_id"], unique=False)
    op.create_index("ix_answers_worker", "answers", ["worker_id"], unique=False)
    op.create_table(
        "campaigns",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("spec", sa.Text(), server_default="", nullable=False),
        sa.Column("budget", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("resume_state", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("updated_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_campaigns")),
        sa.UniqueConstraint("campaign_id", name=op.f("uq_campaigns_campaign_id")),
        sa.UniqueConstraint("request_id", name=op.f("uq_campaigns_request_id")),
    )
    op.create_table(
        "embedding_jobs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("embedding_job_id", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("model_id", sa.Text(), server_default="", nullable=False),
        sa.Column("collection", sa.Text(), server_default="", nullable=False),
        sa.Column("total", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("embedded", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_embedding_jobs")),
        sa.UniqueConstraint("embedding_job_id", name=op.f("uq_embedding_jobs_embedding_job_id")),
        sa.UniqueConstraint("request_id", name=op.f("uq_embedding_jobs_request_id")),
    )
    op.create_table(
        "embedding_rejects",
        sa.Column("embedding_job_id", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("embedding_job_id", "image_id", name=op.f("pk_embedding_rejects")),
    )
    op.create_table(
        "facts",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_facts")),
    )
    op.create_table(
        "files",
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("etag", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("uri", name=op.f("pk_files")),
    )
    op.create_index(op.f("ix_files_image_id"), "files", ["image_id"], unique=False)
    op.create_index(op.f("ix_files_name"), "files", ["name"], unique=False)
    op.create_table(
        "folders", sa.Column("uri", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("uri", name=op.f("pk_folders"))
    )
    op.create_table(
        "forgotten",
        sa.Column("worker_sha256", sa.Text(), nullable=False),
        sa.Column("new_worker_id", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("worker_sha256", name=op.f("pk_forgotten")),
    )
    op.create_table(
        "images",
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("width", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("height", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("format", sa.Text(), server_default="", nullable=False),
        sa.Column("size", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("thumbnail_uri", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("image_id", name=op.f("pk_images")),
    )
    op.create_table(
        "job_images",
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("page", sa.Text(), server_default="", nullable=False),
        sa.Column("failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("job_name", "image_id", name=op.f("pk_job_images")),
    )
    op.create_table(
        "jobs",
        sa.Column("sequence", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("round_id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("request", sa.Text(), server_default="", nullable=False),
        sa.Column("spec_sha256", sa.Text(), server_default="", nullable=False),
        sa.Column("attempt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("arn", sa.Text(), server_default="", nullable=False),
        sa.Column("output_manifest_uri", sa.Text(), server_default="", nullable=False),
        sa.Column("images", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("workers_per_page", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pages_labeled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pages_failed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("next_try_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_jobs")),
        sa.UniqueConstraint("job_name", name=op.f("uq_jobs_job_name")),
        sa.UniqueConstraint("request_id", name=op.f("uq_jobs_request_id")),
    )
    op.create_index(op.f("ix_jobs_campaign_id"), "jobs", ["campaign_id"], unique=False)
    op.create_index(op.f("ix_jobs_round_id"), "jobs", ["round_id"], unique=False)
    op.create_table(
        "known_labels",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="[]", nullable=False),
        sa.PrimaryKeyConstraint("kind", "image_id", name=op.f("pk_known_labels")),
    )
    op.create_table(
        "labels",
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="[]", nullable=False),
        sa.Column("confidence", sa.Float(), server_default="0", nullable=False),
        sa.Column("status", sa.Text(), server_default="", nullable=False),
        sa.Column("answers", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("agreeing", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("is_target", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "image_id", name=op.f("pk_labels")),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), server_default="", nullable=False),
        sa.Column("expires_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "ledger",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ledger")),
        sa.UniqueConstraint("job_name", "entry", name=op.f("uq_ledger_job_name")),
    )
    op.create_index(op.f("ix_ledger_campaign_id"), "ledger", ["campaign_id"], unique=False)
    op.create_table(
        "near_groups",
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("group_id", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("collection", "image_id", name=op.f("pk_near_groups")),
    )
    op.create_table(
        "picks",
        sa.Column("round_id", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("rank", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("score", sa.Float(), server_default="0", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.Column("arm", sa.Text(), server_default="", nullable=False),
        sa.Column("inclusion_probability", sa.Float(), server_default="0", nullable=False),
        sa.Column("pool_size", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("round_id", "image_id", name=op.f("pk_picks")),
    )
    op.create_index("ix_picks_campaign_image", "picks", ["campaign_id", "image_id"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("job_name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), server_default="", nullable=False),
        sa.Column("rule", sa.Text(), server_default="", nullable=False),
        sa.Column("excerpt", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("job_name", "digest", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "reviews",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), server_default="[]", nullable=False),
        sa.Column("reviewer", sa.Text(), server_default="", nullable=False),
        sa.Column("at", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_reviews")),
    )
    op.create_table(
        "rounds",
        sa.Column("round_id", sa.Text(), nullable=False),
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), server_default="", nullable=False),
        sa.Column("strategy", sa.Text(), server_default="", nullable=False),
        sa.Column("explanation", sa.Text(), server_default="", nullable=False),
        sa.Column("warnings", sa.Text(), server_default="[]", nullable=False),
        sa.Column("pending", sa.Text(), server_default="[]", nullable=False),
        sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("version", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("campaign_id", "number", name=op.f("uq_rounds_campaign_id")),
        sa.UniqueConstraint("request_id", name=op.f("uq_rounds_request_id")),
    )
    op.create_table(
        "vectors",
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("collection", "image_id", name=op.f("pk_vectors")),
    )
    op.create_table(
        "workers",
        sa.Column("campaign_id", sa.Text(), nullable=False),
        sa.Column("worker_id", sa.Text(), nullable=False),
        sa.Column("answers", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reliability", sa.Float(), server_default="0", nullable=False),
        sa.Column("low", sa.Float(), server_default="0", nullable=False),
        sa.Column("high", sa.Float(), server_default="0", nullable=False),
        sa.Column("gold_accuracy", sa.Float(), server_default="0", nullable=False),
        sa.Column("verdict", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("campaign_id", "worker_id", name=op.f("pk_workers")),
    )
