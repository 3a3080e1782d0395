# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's side: what runs, who works and how well, what is owed; pausing jobs and workers; the audit log."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select, update

from gandt.domain.errors import InvalidInput, NotFound
from gandt_labeling.service import audit
from gandt_labeling.service.parts import count_tasks
from gandt_labeling.service.spec import Job, job_of
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.service.tiles import tile_labels
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import assignments, jobs, tasks, workers

COMPARED = 2000  # newest answers that agreement is computed from
JOBS_SHOWN = 50


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as the operator sees it.

    Attributes:
        tasks: how many are in each state.
        answers: submitted pages.
        leases: pages that workers hold now.
        owed_micros: pay for the submitted pages, in millionths of a US dollar.
    """

    job: Job
    tasks: dict[str, int]
    answers: int
    leases: int
    owed_micros: int


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker as the operator sees it.

    Attributes:
        page_seconds: median active seconds of a page over the newest answers; None without one.
        agreement: share of tiles answered as the majority of the others did; None when nobody else answered them.
        compared: tiles behind `agreement`.
    """

    worker_id: str
    state: str
    reason: str
    seen_at: float
    pages: int
    active_seconds: float
    page_seconds: float | None
    agreement: float | None
    compared: int
    owed_micros: int


class Operator:
    """Use cases of the operator's page; each call is one transaction."""

    def __init__(self, database: Database, time: SteadyClock) -> None:
        self._database = database
        self._time = time

    def jobs(self) -> list[JobView]:
        """The newest jobs, newest first."""
        with self._database.read() as connection:
            query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.job_id.desc()).limit(JOBS_SHOWN)
            return [self._job(connection, job_of(row)) for row in connection.execute(query).all()]

    def workers(self) -> list[WorkerView]:
        """All workers who answered or were seen, the most recent first."""
        with self._database.read() as connection:
            rows = connection.execute(select(workers).order_by(workers.c.seen_at.desc())).all()
            totals = {row.worker_id: row for row in connection.execute(_totals()).all()}
            owed = _owed(connection)
            recent = _recent(connection)
        agreement = _agreement(recent)
        seconds: dict[str, list[float]] = defaultdict(list)
        for answer in recent:
            seconds[answer.worker_id].append(answer.active_seconds)
        return [
            WorkerView(
                worker_id=row.worker_id,
                state=row.state,
                reason=row.state_reason,
                seen_at=row.seen_at,
                pages=totals[row.worker_id].pages if row.worker_id in totals else 0,
                active_seconds=totals[row.worker_id].seconds if row.worker_id in totals else 0.0,
                page_seconds=statistics.median(seconds[row.worker_id]) if row.worker_id in seconds else None,
                agreement=agreement[row.worker_id][0] if row.worker_id in agreement else None,
                compared=agreement[row.worker_id][1] if row.worker_id in agreement else 0,
                owed_micros=owed.get(row.worker_id, 0),
            )
            for row in rows
        ]

    def pause_job(self, name: str, paused: bool) -> None:
        """No new pages of this job, or again; pages that workers hold may be finished.

        Raises:
            NotFound: no job has that name.
        """

        def change(connection: Connection) -> None:
            where = jobs.c.name_key == name.lower()
            if connection.execute(update(jobs).where(where).values(paused=int(paused))).rowcount == 0:
                raise NotFound(f"Labeling job {name} does not exist", kind="labeling job", id=name)
            audit.note(connection, self._time.now(), "operator", "pause job" if paused else "resume job", name)

        self._database.write(change)

    def pause_worker(self, worker_id: str, paused: bool, reason: str = "") -> None:
        """No new pages for this worker, or again; what was answered stays.

        Raises:
            NotFound: nobody has this id.
            InvalidInput: the reason is longer than 200 characters.
        """
        if len(reason) > 200:
            raise InvalidInput("a reason has at most 200 characters", field="reason")

        def change(connection: Connection) -> None:
            values = {"state": "paused" if paused else "active", "state_reason": reason if paused else ""}
            where = workers.c.worker_id == worker_id
            if connection.execute(update(workers).where(where).values(values)).rowcount == 0:
                raise NotFound("there is no such worker", kind="worker", id=worker_id)
            action = "pause worker" if paused else "resume worker"
            audit.note(connection, self._time.now(), "operator", action, worker_id, reason)

        self._database.write(change)

    def log(self, limit: int = 200) -> list[audit.Entry]:
        """The newest lines of the audit log."""
        with self._database.read() as connection:
            return audit.newest(connection, limit)

    def note(self, action: str, about: str = "", detail: str = "", actor: str = "operator") -> None:
        """Write a line of the audit log for what happens elsewhere."""
        self._database.write(lambda c: audit.note(c, self._time.now(), actor, action, about, detail))

    def note_refused_login(self) -> None:
        """Write down that somebody came with a wrong token: once a minute, so that a flood pushes nothing away."""
        now = self._time.now()
        with self._database.read() as connection:
            noted = audit.was_noted_since(connection, "refused login", now - 60)
        if not noted:
            self.note("refused login", detail="others within a minute are not listed")

    def _job(self, connection: Connection, job: Job) -> JobView:
        mine = assignments.c.job_id == job.job_id
        states = {
            row.state: row.size
            for row in connection.execute(
                select(assignments.c.state, func.count().label("size")).where(mine).group_by(assignments.c.state)
            ).all()
        }
        done = states.get("done", 0)
        return JobView(
            job, count_tasks(connection, tasks.c.job_id == job.job_id), done, states.get("leased", 0), done * job.pay
        )


@dataclass(frozen=True, slots=True)
class _Answer:
    job_id: int
    task_no: int
    worker_id: str
    active_seconds: float
    labels: dict[str, frozenset[str]]


def _totals() -> Any:
    return (
        select(
            assignments.c.worker_id,
            func.count().label("pages"),
            func.sum(assignments.c.active_seconds).label("seconds"),
        )
        .where(assignments.c.state == "done")
        .group_by(assignments.c.worker_id)
    )


def _owed(connection: Connection) -> dict[str, int]:
    """Pay for submitted pages by worker, in millionths of a US dollar."""
    query = (
        select(assignments.c.worker_id, assignments.c.job_id, func.count().label("pages"))
        .where(assignments.c.state == "done")
        .group_by(assignments.c.worker_id, assignments.c.job_id)
    )
    rows = connection.execute(query).all()
    pays = {row.job_id: job_of(row).pay for row in connection.execute(select(jobs)).all()}
    owed: dict[str, int] = defaultdict(int)
    for row in rows:
        owed[row.worker_id] += row.pages * pays.get(row.job_id, 0)
    return owed


def _recent(connection: Connection) -> list[_Answer]:
    query = (
        select(assignments, tasks.c.input)
        .join(tasks, (tasks.c.job_id == assignments.c.job_id) & (tasks.c.task_no == assignments.c.task_no))
        .where(assignments.c.state == "done")
        .order_by(assignments.c.finished_at.desc())
        .limit(COMPARED)
    )
    return [
        _Answer(
            row.job_id,
            row.task_no,
            row.worker_id,
            row.active_seconds,
            tile_labels(json.loads(row.input or "{}"), json.loads(row.answer)),
        )
        for row in connection.execute(query).all()
    ]


def _agreement(answers: list[_Answer]) -> dict[str, tuple[float, int]]:
    """By worker: the share of tiles answered as most of the others did, and of how many tiles.

    A tie among the others says nothing and does not count.
    """
    votes: dict[str, list[tuple[str, frozenset[str]]]] = defaultdict(list)
    for answer in answers:
        for image, labels in answer.labels.items():
            votes[image].append((answer.worker_id, labels))
    seen: dict[str, int] = defaultdict(int)
    right: dict[str, int] = defaultdict(int)
    for given in votes.values():
        for worker, labels in given:
            others: dict[frozenset[str], int] = defaultdict(int)
            for other, theirs in given:
                if other != worker:
                    others[theirs] += 1
            if not others:
                continue
            most = max(others.values())
            leaders = [each for each, count in others.items() if count == most]
            if len(leaders) == 1:
                seen[worker] += 1
                right[worker] += leaders[0] == labels
    return {worker: (right[worker] / count, count) for worker, count in seen.items()}
