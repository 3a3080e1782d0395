# SPDX-License-Identifier: GPL-3.0-or-later
"""Which task a worker gets next, and how many are left for that worker."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import assignments, seen_images, task_images, tasks

HOLDS = ("leased", "done", "declined")  # states that keep a worker from getting the task again


@dataclass(frozen=True, slots=True)
class FreeTask:
    """A task that a worker may get.

    Attributes:
        taken: its slots that are leased or done.
        hidden: its images that this worker has seen on another page of the campaign; they are left out.
    """

    task_no: int
    taken: int
    hidden: int


def free_tasks(connection: Connection, job: Job, worker_id: str) -> list[FreeTask]:
    """Tasks that the worker may get now.

    Never a task that the worker holds, answered or declined; in a campaign never one whose images the worker has all
    seen on other pages.
    """
    query = select(tasks.c.task_no, tasks.c.taken).where(*_available(job, worker_id))
    rows = connection.execute(query).all()
    hidden = _hidden_counts(connection, job, worker_id) if rows and job.campaign else {}
    totals = _image_counts(connection, job) if hidden else {}
    return [
        FreeTask(row.task_no, row.taken, hidden.get(row.task_no, 0))
        for row in rows
        if row.task_no not in hidden or hidden[row.task_no] < totals[row.task_no]
    ]


def choose(free: list[FreeTask], job: Job, worker_id: str) -> int | None:
    """Of the free tasks the one that shows the worker most, then the one with the most free slots.

    Ties go by a hash of worker and task, so that groups of workers overlap evenly.
    """
    if not free:
        return None
    best = min((task.hidden, task.taken) for task in free)
    ties = (task.task_no for task in free if (task.hidden, task.taken) == best)
    return min(ties, key=lambda task_no: _rank(worker_id, job.job_id, task_no))


def hidden_images(connection: Connection, job: Job, task_no: int, worker_id: str) -> set[str]:
    """Images of a page that the worker has seen on another page of the campaign."""
    if not job.campaign:
        return set()
    query = select(task_images.c.image_id).where(task_images.c.task_no == task_no)
    return set(connection.execute(_seen_elsewhere(query, job, worker_id)).scalars())


def progress(connection: Connection, job: Job, worker_id: str, free: int | None = None) -> tuple[int, int]:
    """Tasks of the job that the worker submitted, and how many the worker may still get at most.

    Args:
        free: how many of the free tasks are left to the worker, where the caller knows it.
    """
    mine = and_(assignments.c.job_id == job.job_id, assignments.c.worker_id == worker_id, assignments.c.state == "done")
    done = connection.execute(select(func.count()).where(mine)).scalar_one()
    if free is None:
        free = len(free_tasks(connection, job, worker_id))
    waiting = connection.execute(
        select(func.count()).where(tasks.c.job_id == job.job_id, tasks.c.state == "waiting")
    ).scalar_one()
    return done, free + waiting


def _available(job: Job, worker_id: str) -> list[ColumnElement[bool]]:
    held = select(assignments.c.task_no).where(
        assignments.c.job_id == job.job_id, assignments.c.worker_id == worker_id, assignments.c.state.in_(HOLDS)
    )
    return [
        tasks.c.job_id == job.job_id,
        tasks.c.state == "open",
        tasks.c.taken < job.spec.slots,
        tasks.c.declined < job.spec.slots,
        tasks.c.task_no.not_in(held),
    ]


def _hidden_counts(connection: Connection, job: Job, worker_id: str) -> dict[int, int]:
    query = _seen_elsewhere(select(task_images.c.task_no, func.count().label("size")), job, worker_id)
    return {row.task_no: row.size for row in connection.execute(query.group_by(task_images.c.task_no))}


def _image_counts(connection: Connection, job: Job) -> dict[int, int]:
    query = select(task_images.c.task_no, func.count().label("size")).where(task_images.c.job_id == job.job_id)
    return {row.task_no: row.size for row in connection.execute(query.group_by(task_images.c.task_no))}


def _seen_elsewhere(query: Select[Any], job: Job, worker_id: str) -> Select[Any]:
    """Narrow a query over the job's images to those that the worker saw on another page of the campaign."""
    elsewhere = or_(seen_images.c.job_id != job.job_id, seen_images.c.task_no != task_images.c.task_no)
    return query.join(seen_images, seen_images.c.image_id == task_images.c.image_id).where(
        task_images.c.job_id == job.job_id,
        seen_images.c.campaign == job.campaign,
        seen_images.c.worker_id == worker_id,
        elsewhere,
    )


def _rank(worker_id: str, job_id: int, task_no: int) -> bytes:
    return hashlib.blake2b(f"{worker_id}/{job_id}/{task_no}".encode(), digest_size=8).digest()
