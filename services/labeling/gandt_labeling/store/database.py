# SPDX-License-Identifier: GPL-3.0-or-later
"""One database, SQLite or PostgreSQL by URL: migrations at the start, cheap reads, grouped durable writes.

Writers queue; whoever gets the lock commits for all that wait, each in its own savepoint, so twenty submits that
arrive together cost one fsync. A write returns only after the commit (SQLite: WAL with synchronous=FULL).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from gandt.domain import disk
from gandt.domain.errors import BackendUnavailable, GandtError

T = TypeVar("T")
Work = Callable[[Connection], T]

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"


@dataclass
class _Pending(Generic[T]):
    work: Work[T]
    done: bool = False
    value: T | None = None
    error: BaseException | None = field(default=None)


class Database:
    """Reads and writes of one labeling database.

    Args:
        url: SQLAlchemy URL, `sqlite:///path/labeling.db` or `postgresql+psycopg://...`.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        self._where = self._engine.url.render_as_string(hide_password=True).removeprefix("sqlite:///")
        self._queue: list[_Pending[Any]] = []
        self._queue_guard = threading.Lock()
        self._commit_lock = threading.Lock()

    def migrate(self) -> None:
        """Bring the tables to the newest version; does nothing on a current database.

        Raises:
            BackendUnavailable: the database does not answer.
            WrongState: its disk is full or read-only.
        """
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self._engine.connect() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except OperationalError as error:
            raise self._translated(error) from error

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for queries; nothing done through it is kept."""
        try:
            with self._engine.connect() as connection:
                try:
                    yield connection
                except GandtError:
                    raise
                except BaseException:
                    # A result that was not read to its end, kept alive by the error, would hold this connection to
                    # what the database was at this moment: whoever gets it next would read the past.
                    connection.invalidate()
                    raise
        except OperationalError as error:
            raise self._translated(error) from error

    def write(self, work: Work[T]) -> T:
        """Run `work` in a transaction and return its value after the commit.

        `work` touches only the database; it runs in a savepoint beside other writers' work, so it may be undone
        alone by raising.

        Raises:
            GandtError: what `work` raised; its changes are undone.
            WrongState: the disk is full or read-only; nothing was kept.
            BackendUnavailable: the database refused the commit (connection lost); nothing was kept.
        """
        mine = _Pending(work)
        with self._queue_guard:
            self._queue.append(mine)
        with self._commit_lock:
            if not mine.done:
                with self._queue_guard:
                    group, self._queue = self._queue, []
                self._commit(group)
        if mine.error is not None:
            raise mine.error
        return cast(T, mine.value)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _translated(self, error: DBAPIError) -> GandtError:
        said = str(error.orig)
        on_disk = self._engine.dialect.name == "sqlite"
        trouble = disk.of_sqlite(said, f"the labeling database {self._where}") if on_disk else None
        return trouble or BackendUnavailable(
            f"the labeling database {self._where} does not take this: {said}",
            backend="sql",
            reason="DATABASE_UNAVAILABLE",
            fix="check GANDT_LABELING__DATABASE_URL and that its server answers",
        )

    def _commit(self, group: list[_Pending[Any]]) -> None:
        cause: OperationalError | None = None
        try:
            with self._engine.connect().execution_options(gandt_write=True) as connection, connection.begin():
                for pending in group:
                    try:
                        with connection.begin_nested():
                            try:
                                pending.value = pending.work(connection)
                            except OperationalError as error:
                                cause = error
                                raise
                    except OperationalError:
                        raise  # the disk or the server: nobody in the group can be kept
                    except Exception as error:  # noqa: BLE001 - handed to the caller of write(), who raises it
                        pending.error = error
        except BaseException as error:
            if isinstance(error, OperationalError) and cause is not None:
                error = cause  # a full SQLite undoes the transaction itself, and then misses the savepoint
            failure = self._translated(error) if isinstance(error, DBAPIError) else error
            if failure is not error:
                failure.__cause__ = error
            for pending in group:
                pending.error = pending.error or failure
            if not isinstance(error, DBAPIError):
                raise
        finally:
            for pending in group:
                pending.done = True


def _engine(url: str) -> Engine:
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN would break savepoints
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=30000", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A write that starts as a read could find the database changed under it and fail; take the lock at once.
        write = connection.get_execution_options().get("gandt_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine
