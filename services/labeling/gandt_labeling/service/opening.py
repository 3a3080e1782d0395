# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting -> open: the pre-annotation Lambda makes a task's page input, up to MaxConcurrentTaskCount at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, NotFound
from gandt_labeling.service.output import failed_outcome, pre_event
from gandt_labeling.service.parts import Parts, count_tasks
from gandt_labeling.service.spec import Job, Json
from gandt_labeling.service.tiles import image_ids
from gandt_labeling.store.schema import task_images, tasks

CHUNK = 25  # tasks opened in one transaction, so that the first workers do not wait for the last page


@dataclass(frozen=True, slots=True)
class _Opened:
    task_no: int
    changes: Json
    images: list[str]


def open_tasks(parts: Parts, job: Job) -> bool:
    """Open the next tasks in manifest order; says whether any task changed."""
    with parts.database.read() as connection:
        room = min(_room(connection, job), CHUNK)
        if room <= 0:
            return False
        query = (
            select(tasks.c.task_no, tasks.c.line, tasks.c.attempts)
            .where(tasks.c.job_id == job.job_id, tasks.c.state == "waiting", tasks.c.retry_at <= parts.time.now())
            .order_by(tasks.c.task_no)
            .limit(room)
        )
        rows = connection.execute(query).all()
    if not rows:
        return False
    opened = [_open(parts, job, row.task_no, row.line, row.attempts) for row in rows]
    parts.database.write(lambda connection: _apply(connection, job, opened))
    return True


def _room(connection: Connection, job: Job) -> int:
    counts = count_tasks(connection, tasks.c.job_id == job.job_id)
    if not counts.get("waiting"):
        return 0
    room = job.spec.max_open - counts.get("open", 0)
    limit = job.spec.labeled_limit(sum(counts.values()))
    if limit is not None:
        started = sum(counts.get(state, 0) for state in ("open", "closed", "batched", "labeled"))
        room = min(room, limit - started)
    return room


def _open(parts: Parts, job: Job, task_no: int, line: str, attempts: int) -> _Opened:
    now = parts.time.now()
    try:
        answer = _ask(parts, job, line)
    except (BackendUnavailable, DeadlineExceeded, NotFound) as error:
        if error.reason == "LAMBDA_NOT_READY":
            return _Opened(task_no, {"retry_at": now + 1.0}, [])
        if attempts + 1 < parts.limits.tries and not isinstance(error, NotFound):
            return _Opened(task_no, {"attempts": attempts + 1, "retry_at": now + 2.0**attempts}, [])
        return _failed(job, task_no, str(error))
    if not isinstance(answer, dict) or not isinstance(answer.get("taskInput"), dict):
        return _failed(job, task_no, "it returned no taskInput")
    required = answer.get("isHumanAnnotationRequired", answer.get("humanAnnotationRequired", True))
    if str(required).lower() == "false":
        return _Opened(task_no, {"state": "skipped"}, [])
    page = answer["taskInput"]
    changes = {"state": "open", "input": json.dumps(page), "expires_at": now + job.spec.availability}
    return _Opened(task_no, changes, image_ids(page) if job.campaign else [])


def _ask(parts: Parts, job: Job, line: str) -> Any:
    if not job.spec.pre_lambda:
        return {"taskInput": json.loads(line)}
    return parts.lambdas.invoke(job.spec.pre_lambda, pre_event(job, line), parts.limits.pre_seconds)


def _failed(job: Job, task_no: int, why: str) -> _Opened:
    reason = f"ClientError: The pre-annotation Lambda function {job.spec.pre_lambda} failed for this object: {why}"
    return _Opened(task_no, {"state": "failed", "outcome": json.dumps(failed_outcome(job, reason[:1000]))}, [])


def _apply(connection: Connection, job: Job, opened: list[_Opened]) -> None:
    for task in opened:
        change = (
            update(tasks)
            .where(tasks.c.job_id == job.job_id, tasks.c.task_no == task.task_no, tasks.c.state == "waiting")
            .values(task.changes)
        )
        if connection.execute(change).rowcount and task.images:
            rows = [{"job_id": job.job_id, "task_no": task.task_no, "image_id": image} for image in task.images]
            connection.execute(task_images.insert(), rows)
