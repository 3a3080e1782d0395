# SPDX-License-Identifier: GPL-3.0-or-later
"""Alembic's entry point. The job store hands over a connection whose transaction spans all steps: all or nothing."""

from __future__ import annotations

from alembic import context

from gandt.adapters.sql_jobs_schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
