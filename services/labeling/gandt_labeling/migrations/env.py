# SPDX-License-Identifier: GPL-3.0-or-later
"""Alembic's entry: migrates over the connection that `Database.migrate` hands in."""

from __future__ import annotations

from alembic import context

from gandt_labeling.store.schema import METADATA

context.configure(connection=context.config.attributes["connection"], target_metadata=METADATA)
with context.begin_transaction():
    context.run_migrations()
