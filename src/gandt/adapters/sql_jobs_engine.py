# SPDX-License-Identifier: GPL-3.0-or-later
"""The job store's database: SQLite (WAL, full sync) in a file, or PostgreSQL by URL, brought to the newest schema.

Writers take the write lock when they begin, so that two of them queue instead of failing at commit. Library errors
become domain errors here.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, inspect, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError

from gandt.domain import disk
from gandt.domain.errors import BackendUnavailable, CorruptData, GandtError, Overloaded

BUSY_SECONDS = 30
HEAD = "0003"  # newest revision in sql_jobs_migrations/versions
MIGRATIONS = Path(__file__).parent / "sql_jobs_migrations"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIGRATION_LOCK = 0x67616E6474  # any number that nobody else uses


def to_micros(moment: datetime | None) -> int | None:
    """Microseconds since 1970 of an aware time."""
    return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int | None) -> datetime | None:
    """The aware UTC time of microseconds since 1970."""
    return None if micros is None else EPOCH + timedelta(microseconds=micros)


def moment(micros: int) -> datetime:
    """The aware UTC time of microseconds since 1970, never None."""
    return EPOCH + timedelta(microseconds=micros)


def _as_domain_error(error: DBAPIError, where: str) -> GandtError:
    words = str(error.orig).lower()
    if "locked" in words or "busy" in words:
        return Overloaded(
            f"the job store {where} is locked by another process",
            reason="STORE_BUSY",
            retry_after_seconds=2,
            fix="wait for it, or end the other process",
        )
    if isinstance(error.orig, sqlite3.Error) and (full := disk.of_sqlite(words, f"the job store {where}")):
        return full
    if "read-only" in words:
        return BackendUnavailable(
            f"the job store {where} cannot be written: it is read-only",
            backend="job store",
            reason="STORE_READ_ONLY",
            fix="connect to the primary server",
        )
    if "malformed" in words or "not a database" in words:
        return CorruptData(f"the job store {where} is damaged: {error.orig}", kind="job store", id=where)
    return BackendUnavailable(
        f"the job store {where} does not answer: {error.orig}", backend="job store", reason="STORE_UNAVAILABLE"
    )


class SqlStore:
    """An engine with one schema; `write` and `read` give connections in a transaction.

    Args:
        url: SQLAlchemy URL, `sqlite:///path` or `postgresql+psycopg://...`.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._where = str(self.database_file or self._engine.url.render_as_string(hide_password=True))
        self._migrate()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            raise _as_domain_error(error, self._where) from error

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that may write; commits at the end, rolls back on any error."""
        with self._errors(), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only reads: a consistent view, never waiting for writers."""
        with self._errors(), self._engine.connect().execution_options(gandt_read=True) as connection:
            yield connection

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT in this engine's dialect."""
        return postgresql.insert(table) if self._engine.dialect.name == "postgresql" else sqlite.insert(table)

    @property
    def locks_rows(self) -> bool:
        """Whether SELECT ... FOR UPDATE exists (PostgreSQL); SQLite locks the whole store when a writer begins."""
        return self._engine.dialect.name == "postgresql"

    @property
    def database_file(self) -> Path | None:
        """SQLite's file; None for a database in memory or on a server."""
        name = self._engine.url.database
        is_file = not self.locks_rows and name and name != ":memory:"
        return Path(name) if is_file and name else None

    def _migrate(self) -> None:
        with self.read() as connection:
            if inspect(connection).has_table("alembic_version"):
                version = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
                if version == HEAD:
                    return
        from alembic import command  # only where there is something to do: it costs a quarter of a second
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        with self.write() as connection:
            if self.locks_rows:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            config.attributes["connection"] = connection
            command.upgrade(config, "head")


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True, isolation_level="READ COMMITTED")
    path = url.removeprefix("sqlite:///")
    if path and path != ":memory:":
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk.unwritable(error, f"the folder {Path(path).parent} of the job store") from error
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("gandt_read")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine
