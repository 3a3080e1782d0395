# SPDX-License-Identifier: GPL-3.0-or-later
"""Paused jobs and workers, the teams of jobs, the audit log, an index for the next task."""

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
    op.create_index("tasks_free", "tasks", ["job_id", "state", "taken", "task_no", "declined"], unique=False)
    op.create_index("assignments_by_finish", "assignments", ["state", "finished_at"], unique=False)
    op.add_column("workers", sa.Column("state", sa.String(16), server_default="active", nullable=False))
    op.add_column("workers", sa.Column("state_reason", sa.String(256), server_default="", nullable=False))
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
    op.drop_table("audit")
    op.drop_index("tasks_free", "tasks")
    op.drop_index("assignments_by_finish", "assignments")
    for table, column in (
        ("jobs", "paused"),
        ("jobs", "workteam"),
        ("workers", "state"),
        ("workers", "state_reason"),
    ):
        op.drop_column(table, column)
