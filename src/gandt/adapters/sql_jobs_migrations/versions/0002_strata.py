# SPDX-License-Identifier: GPL-3.0-or-later
"""When an image came into the pool, and what each draw of a round was made from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what is embedded already was there from the start."""
    op.add_column("images", sa.Column("arrived", sa.BigInteger(), nullable=True))
    op.execute("UPDATE images SET arrived = 0 WHERE image_id IN (SELECT image_id FROM vectors)")
    op.add_column("rounds", sa.Column("ordinal", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("rounds", sa.Column("planned", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("rounds", sa.Column("draws", sa.Text(), server_default="[]", nullable=False))
    op.add_column("picks", sa.Column("part", sa.BigInteger(), server_default="1", nullable=False))
    op.add_column("picks", sa.Column("stratum", sa.BigInteger(), server_default="1", nullable=False))
