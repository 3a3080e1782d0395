# SPDX-License-Identifier: GPL-3.0-or-later
"""Which task a worker gets next, and how many are left for that worker."""

from __future__ import annotations

import hashlib

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import assignments, seen_images, task_images, tasks

HOLDS = ("leased", "done", "declined")  # states that keep a worker from getting the task again


def choose(connection: Connection, job: Job, worker_id: str) -> int | None:
    """The task with the most free slots, ties by a hash of worker and task, so that groups of workers overlap evenly.

    Never a task that the worker holds, answered or declined; in a campaign never one with an image that the worker
    saw on another page.
    """
    query = select(tasks.c.task_no, tasks.c.taken).where(*_available(job, worker_id))
    rows = connection.execute(query).all()
    blocked = _blocked(connection, job, worker_id)
    free = [row for row in rows if row.task_no not in blocked]
    if not free:
        return None
    fewest = min(row.taken for row in free)
    ties = [int(row.task_no) for row in free if row.taken == fewest]
    return min(ties, key=lambda task_no: _rank(worker_id, job.job_id, task_no))


def progress(connection: Connection, job: Job, worker_id: str) -> tuple[int, int]:
    """Tasks of the job that the worker submitted, and how many the worker may still get at most."""
    mine = and_(assignments.c.job_id == job.job_id, assignments.c.worker_id == worker_id, assignments.c.state == "done")
    done = connection.execute(select(func.count()).where(mine)).scalar_one()
    available = set(connection.execute(select(tasks.c.task_no).where(*_available(job, worker_id))).scalars())
    available -= _blocked(connection, job, worker_id)
    waiting = connection.execute(
        select(func.count()).where(tasks.c.job_id == job.job_id, tasks.c.state == "waiting")
    ).scalar_one()
    return done, len(available) + waiting


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
