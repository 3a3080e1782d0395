# SPDX-License-Identifier: GPL-3.0-or-later
"""Which task a worker gets next, and how many are left for that worker."""

from __future__ import annotations

import hashlib

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import assignments, seen_images, task_images, tasks

HOLDS = ("leased", "done", "declined")  # states that keep a worker from getting the task again


def free_tasks(connection: Connection, job: Job, worker_id: str) -> dict[int, int]:
    """Tasks that the worker may get now, each with its slots taken.

    Never a task that the worker holds, answered or declined; in a campaign never one with an image that the worker
    saw on another page.
    """
    query = select(tasks.c.task_no, tasks.c.taken).where(*_available(job, worker_id))
    rows = connection.execute(query).all()
    blocked = _blocked(connection, job, worker_id) if rows else set()
    return {row.task_no: row.taken for row in rows if row.task_no not in blocked}


def choose(free: dict[int, int], job: Job, worker_id: str) -> int | None:
    """Of the free tasks the one with the most free slots; ties by a hash of worker and task, so that groups of
    workers overlap evenly."""
    if not free:
        return None
    fewest = min(free.values())
    ties = (task_no for task_no, taken in free.items() if taken == fewest)
    return min(ties, key=lambda task_no: _rank(worker_id, job.job_id, task_no))


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


def _blocked(connection: Connection, job: Job, worker_id: str) -> set[int]:
    """Tasks showing an image that the worker saw elsewhere in the campaign."""
    if not job.campaign:
        return set()
    elsewhere = or_(seen_images.c.job_id != job.job_id, seen_images.c.task_no != task_images.c.task_no)
    query = (
        select(task_images.c.task_no)
        .join(seen_images, seen_images.c.image_id == task_images.c.image_id)
        .where(
            task_images.c.job_id == job.job_id,
            seen_images.c.campaign == job.campaign,
            seen_images.c.worker_id == worker_id,
            elsewhere,
        )
    )
    return set(connection.execute(query).scalars())


def _rank(worker_id: str, job_id: int, task_no: int) -> bytes:
    return hashlib.blake2b(f"{worker_id}/{job_id}/{task_no}".encode(), digest_size=8).digest()
