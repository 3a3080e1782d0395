# SPDX-License-Identifier: GPL-3.0-or-later
"""The audit log: who did what, appended to and never changed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, select

from gandt_labeling.store.schema import audit


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log; `at` in epoch seconds."""

    at: float
    actor: str
    action: str
    object: str
    detail: str


def note(connection: Connection, at: float, actor: str, action: str, about: str = "", detail: str = "") -> None:
    """Append a line, in the transaction of what it tells."""
    row = {"at": at, "actor": actor, "action": action, "object": about[:512], "detail": detail[:2000]}
    connection.execute(audit.insert().values(row))


def was_noted_since(connection: Connection, action: str, since: float) -> bool:
    """Whether a line of this action is not older than `since`, in epoch seconds."""
    query = select(audit.c.entry_id).where(audit.c.at >= since, audit.c.action == action).limit(1)
    return connection.execute(query).first() is not None


def newest(connection: Connection, limit: int) -> list[Entry]:
    """The last lines, newest first."""
    query = select(audit).order_by(audit.c.entry_id.desc()).limit(limit)
    return [Entry(row.at, row.actor, row.action, row.object, row.detail) for row in connection.execute(query)]
