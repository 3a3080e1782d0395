# SPDX-License-Identifier: GPL-3.0-or-later
"""Paused jobs and workers, rules of a job, qualification tests, the audit log, versions of pages."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the operator's page works with."""
    op.add_column("jobs", sa.Column("paused", sa.Integer(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("workteam", sa.String(256), server_default="", nullable=False))
    _name_the_teams()
    op.add_column("assignments", sa.Column("page_version", sa.String(16), server_default="", nullable=False))
    op.create_index("assignments_by_finish", "assignments", ["state", "finished_at"], unique=False)
    op.add_column("workers", sa.Column("state", sa.String(16), server_default="active", nullable=False))
    op.add_column("workers", sa.Column("state_reason", sa.String(256), server_default="", nullable=False))
    op.add_column("workers", sa.Column("gold_seen", sa.Integer(), server_default="0", nullable=False))
    op.add_column("workers", sa.Column("gold_right", sa.Integer(), server_default="0", nullable=False))
    op.create_table(
        "job_rules",
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.job_id"]),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_table(
        "qualifications",
        sa.Column("scope", sa.String(length=256), nullable=False),
        sa.Column("worker_id", sa.String(length=128), nullable=False),
        sa.Column("lease_id", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("draft", sa.Text(), server_default="", nullable=False),
        sa.Column("answer_sha256", sa.String(length=64), server_default="", nullable=False),
        sa.Column("changed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "worker_id"),
        sa.UniqueConstraint("lease_id"),
    )
    op.create_table(
        "audit",
        sa.Column("entry_id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("object", sa.String(length=512), server_default="", nullable=False),
        sa.Column("detail", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("entry_id"),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)


def _name_the_teams() -> None:
    """Jobs made before know their team in their request only."""
    connection = op.get_bind()
    jobs = sa.table("jobs", sa.column("job_id"), sa.column("request"), sa.column("workteam"))
    for job_id, request in connection.execute(sa.select(jobs.c.job_id, jobs.c.request)).all():
        team = json.loads(request)["HumanTaskConfig"]["WorkteamArn"]
        connection.execute(sa.update(jobs).where(jobs.c.job_id == job_id).values(workteam=team))


def downgrade() -> None:
    """Drop it again."""
    for table in ("audit", "qualifications", "job_rules"):
        op.drop_table(table)
    op.drop_index("assignments_by_finish", "assignments")
    for table, column in (
        ("jobs", "paused"),
        ("jobs", "workteam"),
        ("assignments", "page_version"),
        ("workers", "state"),
        ("workers", "state_reason"),
        ("workers", "gold_seen"),
        ("workers", "gold_right"),
    ):
        op.drop_column(table, column)
