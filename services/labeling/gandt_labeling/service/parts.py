# SPDX-License-Identifier: GPL-3.0-or-later
"""What every step of the job engine works with, and how jobs are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select, update

from gandt.ports.meter import Meter
from gandt.ports.object_store import ObjectStore
from gandt_labeling.service.ports import LambdaInvoker, PageRenderer
from gandt_labeling.service.spec import Job, job_of
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import jobs, tasks


@dataclass(frozen=True, slots=True)
class Limits:
    """The engine's numbers; seconds unless said otherwise.

    Attributes:
        batch_size: tasks in one call of the post-annotation Lambda.
        batch_seconds: a smaller batch waits this long for company; the last one of a job does not wait.
        grace_seconds: how late a submit may come while its slot is still free.
        pre_seconds: deadline of one pre-annotation call.
        post_seconds: deadline of one post-annotation call.
        tries: calls of a Lambda before its tasks fail.
        job_seconds: age at which an unfinished job is stopped.
    """

    batch_size: int = 50
    batch_seconds: float = 30.0
    grace_seconds: float = 120.0
    pre_seconds: float = 60.0
    post_seconds: float = 300.0
    tries: int = 3
    job_seconds: float = 30 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """The ports and stores that the engine's steps share."""

    database: Database
    objects: ObjectStore
    lambdas: LambdaInvoker
    pages: PageRenderer
    time: SteadyClock
    meter: Meter
    limits: Limits = field(default_factory=Limits)

    def jobs_in(self, states: Sequence[str]) -> list[Job]:
        """Jobs in these states, oldest first."""
        with self.database.read() as connection:
            query = select(jobs).where(jobs.c.status.in_(states)).order_by(jobs.c.created_at, jobs.c.job_id)
            return [job_of(row) for row in connection.execute(query)]

    def set_job(self, job: Job, from_states: Sequence[str], **values: Any) -> bool:
        """Change a job's row if it still is in one of `from_states`; says whether it was."""
        values["modified_at"] = self.time.now()
        change = update(jobs).where(jobs.c.job_id == job.job_id, jobs.c.status.in_(from_states)).values(values)
        return self.database.write(lambda connection: connection.execute(change).rowcount == 1)


def count_tasks(connection: Connection, *conditions: ColumnElement[bool]) -> dict[str, int]:
    """How many tasks are in each state, states without tasks left out."""
    query = select(tasks.c.state, func.count().label("size")).where(*conditions).group_by(tasks.c.state)
    return {row.state: row.size for row in connection.execute(query)}
