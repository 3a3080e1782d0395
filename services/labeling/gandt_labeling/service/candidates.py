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


LOOKED_AT = 24  # tasks that are compared for a worker; all of them only when the worker has seen images of each


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


def choose(connection: Connection, job: Job, worker_id: str, prefer: int | None = None) -> int | None:
    """Of the tasks that the worker may get the one that shows the worker most, then the one with the most free slots.

    Never a task that the worker holds, answered or declined; in a campaign never one whose images the worker has all
    seen on other pages. Ties go by a hash of worker and task, so that groups of workers overlap evenly.

    Args:
        prefer: this one, if the worker may get it.
    """
    if prefer is not None and _free(connection, job, worker_id, None, tasks.c.task_no == prefer):
        return prefer
    few = _free(connection, job, worker_id, LOOKED_AT)
    if not any(task.hidden == 0 for task in few):
        few = _free(connection, job, worker_id, None)
    if not few:
        return None
    best = min((task.hidden, task.taken) for task in few)
    ties = (task.task_no for task in few if (task.hidden, task.taken) == best)
    return min(ties, key=lambda task_no: _rank(worker_id, job.job_id, task_no))


def _free(
    connection: Connection, job: Job, worker_id: str, limit: int | None, *more: ColumnElement[bool]
) -> list[FreeTask]:
    """Tasks that the worker may get, those with the most free slots first."""
    query = select(tasks.c.task_no, tasks.c.taken).where(*_available(job, worker_id), *more)
    rows = connection.execute(query.order_by(tasks.c.taken, tasks.c.task_no).limit(limit)).all()
    if not rows or not job.campaign:
        return [FreeTask(row.task_no, row.taken, 0) for row in rows]
    only = [row.task_no for row in rows] if limit or more else None
    hidden = _hidden_counts(connection, job, worker_id, only)
    totals = _image_counts(connection, job, list(hidden)) if hidden else {}
    return [
        FreeTask(row.task_no, row.taken, hidden.get(row.task_no, 0))
        for row in rows
        if row.task_no not in hidden or hidden[row.task_no] < totals[row.task_no]
    ]


def hidden_images(connection: Connection, job: Job, task_no: int, worker_id: str) -> set[str]:
    """Images of a page that the worker has seen on another page of the campaign."""
    if not job.campaign:
        return set()
    query = select(task_images.c.image_id).where(task_images.c.task_no == task_no)
    return set(connection.execute(_seen_elsewhere(query, job, worker_id)).scalars())


def progress(connection: Connection, job: Job, worker_id: str) -> tuple[int, int]:
    """Tasks of the job that the worker submitted, and how many the worker may still get at most."""
    mine = and_(assignments.c.job_id == job.job_id, assignments.c.worker_id == worker_id, assignments.c.state == "done")
    done = connection.execute(select(func.count()).where(mine)).scalar_one()
    free = connection.execute(select(func.count()).where(*_available(job, worker_id))).scalar_one()
    if job.campaign and 0 < free <= LOOKED_AT:  # near the end, pages whose images were all seen count
        free = len(_free(connection, job, worker_id, None))
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


def _hidden_counts(connection: Connection, job: Job, worker_id: str, only: list[int] | None) -> dict[int, int]:
    query = _seen_elsewhere(select(task_images.c.task_no, func.count().label("size")), job, worker_id)
    if only is not None:
        query = query.where(task_images.c.task_no.in_(only))
    return {row.task_no: row.size for row in connection.execute(query.group_by(task_images.c.task_no))}


def _image_counts(connection: Connection, job: Job, only: list[int]) -> dict[int, int]:
    query = select(task_images.c.task_no, func.count().label("size")).where(task_images.c.job_id == job.job_id)
    few = query if len(only) > 500 else query.where(task_images.c.task_no.in_(only))  # SQLite's limit of variables
    return {row.task_no: row.size for row in connection.execute(few.group_by(task_images.c.task_no))}


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
