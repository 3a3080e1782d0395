# SPDX-License-Identifier: GPL-3.0-or-later
"""Who works: invites, sessions and pseudonyms.

A *team* link admits everybody who has it, each session as a new worker. A *personal* link always admits the same
worker, on any device, so it may be opened again. Neither is stored: both are signed, and a worker's id is a pseudonym
that only this deployment can compute.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select, update

from gandt.domain.errors import Unauthenticated
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.service.tokens import Tokens
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import workers

SESSION_SECONDS = 30 * 24 * 3600.0


def touch(connection: Connection, worker_id: str, now: float) -> None:
    """Note that the worker is there."""
    connection.execute(update(workers).where(workers.c.worker_id == worker_id).values(seen_at=now))


def may_work(connection: Connection, worker_id: str) -> bool:
    """Whether the worker gets new pages: not while an operator, or a rule, has paused them."""
    return connection.execute(select(workers.c.state).where(workers.c.worker_id == worker_id)).scalar() != "paused"


class Workers:
    """Use cases of invites and sessions.

    Args:
        region: third part of a worker id, `private.<region>.<16 hex>`.
    """

    def __init__(self, database: Database, time: SteadyClock, tokens: Tokens, region: str = "local") -> None:
        self._database = database
        self._time = time
        self._tokens = tokens
        self._region = region

    def invite(self, name: str = "", valid_seconds: float | None = None) -> str:
        """An invite: personal when a name is given, else the team's link.

        Args:
            name: whom it is for; only its pseudonym is ever stored.
            valid_seconds: None for a link that stays good.
        """
        claims = {"w": self._tokens.pseudonym("worker", name)} if name else {"t": 1}
        expires_at = None if valid_seconds is None else self._time.now() + valid_seconds
        return self._tokens.make("invite", claims, expires_at)

    def pseudonym(self, name: str) -> str:
        """The worker id of a personal invite's worker."""
        return f"private.{self._region}.{self._tokens.pseudonym('worker', name)}"

    def pause_of(self, worker_id: str) -> str | None:
        """Why a worker gets no new pages, "" without a reason; None for one who does."""
        with self._database.read() as connection:
            row = connection.execute(select(workers).where(workers.c.worker_id == worker_id)).first()
        return row.state_reason if row is not None and row.state == "paused" else None

    def enter(self, invite: str) -> tuple[str, str]:
        """Begin a session: (worker id, session token).

        Raises:
            Unauthenticated: the invite is not ours, or over.
        """
        now = self._time.now()
        claims = self._tokens.open("invite", invite, now)
        suffix = claims.get("w") or secrets.token_hex(8)
        kind = "personal" if "w" in claims else "team"
        worker_id = f"private.{self._region}.{suffix}"

        def admit(connection: Connection) -> None:
            if connection.execute(select(workers.c.worker_id).where(workers.c.worker_id == worker_id)).first() is None:
                row = {"worker_id": worker_id, "kind": kind, "created_at": now, "seen_at": now}
                connection.execute(workers.insert().values(row))
            touch(connection, worker_id, now)

        self._database.write(admit)
        return worker_id, self._tokens.make("session", {"w": worker_id}, now + SESSION_SECONDS)

    def of_session(self, session: str) -> str:
        """The worker id of a session token.

        Raises:
            Unauthenticated: there is no session, or it is over.
        """
        if not session:
            raise Unauthenticated("you are not signed in", reason="NO_SESSION", fix="open your invite link again")
        return str(self._tokens.open("session", session, self._time.now())["w"])
