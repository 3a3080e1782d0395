# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: migrations make what the schema says, writers share commits, one failure undoes one work."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from gandt_labeling.migrations.versions import v0001_first
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import METADATA, jobs, workers
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.exc import IntegrityError

from gandt.domain.errors import WrongState


def insert(name: str) -> Any:
    row = {"worker_id": name, "kind": "team", "created_at": 0.0, "seen_at": 0.0}
    return lambda connection: connection.execute(workers.insert().values(row))


def names(database: Database) -> list[str]:
    with database.read() as connection:
        return sorted(connection.execute(select(workers.c.worker_id)).scalars())


def test_the_migrations_make_the_schema(empty_database: Path) -> None:
    engine = create_engine(f"sqlite:///{empty_database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    engine.dispose()


def test_migrating_twice_keeps_everything(bench: Any) -> None:
    bench.database.write(insert("ann"))
    bench.database.migrate()
    assert names(bench.database) == ["ann"]


def test_a_database_of_the_first_version_keeps_its_jobs_and_people(tmp_path: Path) -> None:
    url, team = (
        f"sqlite:///{tmp_path / 'old.sqlite'}",
        "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
    )
    engine = create_engine(url)
    with engine.begin() as connection, Operations.context(MigrationContext.configure(connection)):
        v0001_first.upgrade()
        connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.exec_driver_sql("INSERT INTO alembic_version VALUES ('0001')")
        connection.exec_driver_sql("INSERT INTO workers VALUES ('ann', 'team', 1, 2)")
        request = json.dumps({"HumanTaskConfig": {"WorkteamArn": team}})
        names_ = "job_id, name, name_key, arn, reference_code, status, request, tags, created_at, modified_at"
        row = (1, "Old", "old", "arn", "r", "InProgress", request, "{}", 1.0, 1.0)
        connection.exec_driver_sql(f"INSERT INTO jobs ({names_}) VALUES (?,?,?,?,?,?,?,?,?,?)", row)
    database = Database(url)
    try:
        database.migrate()
        with database.read() as connection:
            job = connection.execute(select(jobs)).one()
            worker = connection.execute(select(workers)).one()
    finally:
        database.close()
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    engine.dispose()
    assert (job.name, job.workteam, job.paused) == ("Old", team, 0)
    assert (worker.worker_id, worker.state, worker.state_reason) == ("ann", "active", "")


def test_commits_are_durable(bench: Any) -> None:
    with bench.database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2, "FULL"


def test_writers_that_meet_share_a_commit_and_fail_alone(bench: Any) -> None:
    database = bench.database
    started, go_on = threading.Event(), threading.Event()
    outcomes: dict[str, Any] = {}

    def slow(connection: Connection) -> None:
        started.set()
        assert go_on.wait(10)

    def run(name: str, work: Any) -> None:
        try:
            outcomes[name] = database.write(work)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            outcomes[name] = error

    def failing(connection: Connection) -> None:
        insert("undone")(connection)
        raise KeyError("mine alone")

    first = threading.Thread(target=run, args=("slow", slow))
    first.start()
    assert started.wait(10)
    others = [
        threading.Thread(target=run, args=(name, work))
        for name, work in (("a", insert("a")), ("b", failing), ("c", insert("c")), ("d", insert("a")))
    ]
    for thread in others:
        thread.start()
    while len(database._queue) < 4:
        pass
    go_on.set()
    for thread in (first, *others):
        thread.join()
    assert isinstance(outcomes["b"], KeyError)
    assert sum(isinstance(outcomes[name], IntegrityError) for name in ("a", "d")) == 1
    assert names(database) == ["a", "c"]


def test_a_database_that_cannot_be_opened_is_told_plainly(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/missing/labeling.db")
    with pytest.raises(
        WrongState, match=r"missing/labeling.db cannot be written: it or its folder is read-only or gone"
    ):
        database.migrate()
    with pytest.raises(WrongState) as caught:
        database.write(insert("a"))
    assert caught.value.reason == "DISK_READ_ONLY"


@pytest.mark.parametrize("size", [3, 100_000])
def test_a_full_disk_is_named_keeps_what_was_acknowledged_and_can_be_mended(tmp_path: Path, size: int) -> None:
    path = tmp_path / "labeling.db"
    database = Database(f"sqlite:///{path}")
    database.write(lambda c: c.exec_driver_sql("CREATE TABLE kept (name TEXT)"))
    database.write(lambda c: c.exec_driver_sql("INSERT INTO kept VALUES ('before')"))
    pages = 2

    def grow(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        for _ in range(5000):
            connection.exec_driver_sql(f"INSERT INTO kept VALUES (randomblob({size}))")

    with pytest.raises(WrongState, match=f"labeling database {path} cannot be written: the disk is full") as caught:
        database.write(grow)
    assert caught.value.reason == "DISK_FULL"
    pages = 1_000_000
    database.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000"))
    database.write(lambda c: c.exec_driver_sql("INSERT INTO kept VALUES ('after')"))
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT name FROM kept").scalars().all()
    assert rows == ["before", "after"]
    database.close()


def test_a_read_that_broke_off_leaves_no_connection_in_the_past(bench: Any) -> None:
    bench.create("one")
    kept: list[Any] = []

    def break_off() -> None:
        with bench.database.read() as connection:
            kept.append(connection.execute(select(jobs.c.name)))
            kept[-1].fetchone()
            raise ZeroDivisionError

    for _ in range(12):  # more than the pool has
        with pytest.raises(ZeroDivisionError) as caught:
            break_off()
        kept.append(caught)
    bench.create("two")
    for _ in range(12):
        with bench.database.read() as connection:
            assert set(connection.execute(select(jobs.c.name)).scalars()) == {"one", "two"}
