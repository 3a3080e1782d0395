# SPDX-License-Identifier: GPL-3.0-or-later
"""What the aggregation's model and the times say of a worker; -1 until the next aggregation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

COLUMNS = (
    "estimated_accuracy",
    "estimated_low",
    "estimated_high",
    "one_label_share",
    "spammer_score",
    "too_fast_share",
)


def upgrade() -> None:
    """Add the columns."""
    for name in COLUMNS:
        op.add_column("workers", sa.Column(name, sa.Float(), server_default="-1", nullable=False))
