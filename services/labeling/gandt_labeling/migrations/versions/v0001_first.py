# SPDX-License-Identifier: GPL-3.0-or-later
"""The first tables: jobs, tasks, assignments, batches, workers and what a worker has seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("name_key", sa.String(length=63), nullable=False),
        sa.Column("arn", sa.String(length=2048), nullable=False),
        sa.Column("reference_code", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("failure_reason", sa.Text(), server_default="", nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("campaign", sa.String(length=256), server_default="", nullable=False),
        sa.Column("template", sa.Text(), server_default="", nullable=False),
        sa.Column("label_categories", sa.Text(), server_default="", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("modified_at", sa.Double(), nullable=False),
        sa.Column("stop_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
        sa.UniqueConstraint("name_key"),
    )
    op.create_index("ix_jobs_status", "jobs", ["status"], unique=False)
    op.create_table(
        "assignments",
        sa.Column("lease_id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("task_no", sa.Integer(), nullable=False),
        sa.Column("worker_id", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("leased_at", sa.Double(), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("finished_at", sa.Double(), nullable=True),
        sa.Column("active_seconds", sa.Double(), server_default="0", nullable=False),
        sa.Column("draft", sa.Text(), server_default="", nullable=False),
        sa.Column("answer_id", sa.String(length=64), server_default="", nullable=False),
        sa.Column("answer", sa.Text(), server_default="", nullable=False),
        sa.Column("answer_sha256", sa.String(length=64), server_default="", nullable=False),
        sa.Column("reason", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("lease_id"),
    )
    op.create_index("assignments_by_expiry", "assignments", ["state", "expires_at"], unique=False)
    op.create_index("assignments_by_worker", "assignments", ["worker_id", "state", "job_id"], unique=False)
    op.create_index(
        "assignments_once",
        "assignments",
        ["job_id", "task_no", "worker_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('leased', 'done', 'declined')"),
        postgresql_where=sa.text("state IN ('leased', 'done', 'declined')"),
    )
    op.create_table(
        "seen_images",
        sa.Column("campaign", sa.String(length=256), nullable=False),
        sa.Column("worker_id", sa.String(length=128), nullable=False),
        sa.Column("image_id", sa.String(length=512), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("task_no", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("campaign", "worker_id", "image_id"),
    )
    op.create_table(
        "task_images",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("task_no", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.String(length=512), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "task_no", "image_id"),
    )
    op.create_index("task_images_by_image", "task_images", ["image_id", "job_id", "task_no"], unique=False)
    op.create_table(
        "workers",
        sa.Column("worker_id", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("worker_id"),
    )
    op.create_index("ix_workers_seen_at", "workers", ["seen_at"], unique=False)
    op.create_table(
        "batches",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("batch_no", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("response", sa.Text(), server_default="", nullable=False),
        sa.Column("failure", sa.Text(), server_default="", nullable=False),
        sa.Column("called_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "batch_no"),
    )
    op.create_table(
        "tasks",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("task_no", sa.Integer(), nullable=False),
        sa.Column("line", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("input", sa.Text(), server_default="", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_at", sa.Double(), server_default="0", nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=True),
        sa.Column("taken", sa.Integer(), server_default="0", nullable=False),
        sa.Column("done", sa.Integer(), server_default="0", nullable=False),
        sa.Column("declined", sa.Integer(), server_default="0", nullable=False),
        sa.Column("closed_at", sa.Double(), nullable=True),
        sa.Column("batch_no", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), server_default="", nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["jobs.job_id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "task_no"),
    )
    op.create_index("tasks_by_state", "tasks", ["job_id", "state", "task_no"], unique=False)


def downgrade() -> None:
    """Drop every table."""
    for table in ("tasks", "batches", "workers", "task_images", "seen_images", "assignments", "jobs"):
        op.drop_table(table)
