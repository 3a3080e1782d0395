# SPDX-License-Identifier: GPL-3.0-or-later
"""Closed -> labeled or failed, in batches that survive a crash between any two statements.

A batch is `pending` (its tasks are chosen), `written` (its payload lies in the object store), `called` (the Lambda's
answer is in the database) and `applied` (its tasks carry their outcome). Each step can run twice: files are keyed by
batch and written whole, and the Lambda is called again only when its answer was not stored.
"""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, NotFound
from gandt_labeling.service import output
from gandt_labeling.service.parts import Parts, count_tasks
from gandt_labeling.service.spec import Job, Json
from gandt_labeling.store.schema import assignments, batches, tasks

_JSON = "application/json"


def consolidate(parts: Parts, job: Job) -> bool:
    """Make due batches and move each as far as it goes; says whether anything changed."""
    changed = parts.database.write(lambda connection: _make_batch(connection, parts, job))
    with parts.database.read() as connection:
        query = (
            select(batches)
            .where(
                batches.c.job_id == job.job_id,
                batches.c.state != "applied",
                batches.c.retry_at <= parts.time.now(),
            )
            .order_by(batches.c.batch_no)
        )
        due = connection.execute(query).all()
    for batch in due:
        step = {"pending": _write, "written": _call, "called": _apply}[batch.state]
        step(parts, job, batch)
        changed = True
    return changed


def _make_batch(connection: Connection, parts: Parts, job: Job) -> bool:
    now = parts.time.now()
    counts = count_tasks(connection, tasks.c.job_id == job.job_id)
    if "closed" not in counts:
        return False
    in_state_closed = (tasks.c.job_id == job.job_id, tasks.c.state == "closed")
    if counts["closed"] < parts.limits.batch_size and not _is_last(job, counts):
        oldest = connection.execute(select(func.min(tasks.c.closed_at)).where(*in_state_closed)).scalar_one()
        if oldest + parts.limits.batch_seconds > now:
            return False
    chosen = connection.execute(
        select(tasks.c.task_no, tasks.c.done)
        .where(*in_state_closed)
        .order_by(tasks.c.task_no)
        .limit(parts.limits.batch_size)
    ).all()
    answered = [row.task_no for row in chosen if row.done]
    _finish_unanswered(connection, job, [row.task_no for row in chosen if not row.done])
    if answered:
        newest = connection.execute(select(func.max(batches.c.batch_no)).where(batches.c.job_id == job.job_id)).scalar()
        number = (newest or 0) + 1
        connection.execute(batches.insert().values(job_id=job.job_id, batch_no=number, state="pending", created_at=now))
        _set_tasks(connection, job, answered, state="batched", batch_no=number)
    return True


def _is_last(job: Job, counts: dict[str, int]) -> bool:
    """Whether no further task of the job will close."""
    if "open" in counts:
        return False
    limit = job.spec.labeled_limit(sum(counts.values()))
    started = sum(counts.get(state, 0) for state in ("closed", "batched", "labeled"))
    return "waiting" not in counts or (limit is not None and started >= limit)


def _finish_unanswered(connection: Connection, job: Job, numbers: list[int]) -> None:
    if job.status == "Stopping":
        _set_tasks(connection, job, numbers, state="unreached")
    else:
        outcome = json.dumps(output.failed_outcome(job, output.EXPIRED))
        _set_tasks(connection, job, numbers, state="failed", outcome=outcome)


def _write(parts: Parts, job: Job, batch: Row[Any]) -> None:
    """pending -> written: one worker-response file a task, and the payload of the batch."""
    entries = []
    for task in _tasks_of(parts, batch):
        answers = _answers(parts, job, task.task_no)
        uri = output.worker_response_uri(job, batch.batch_no, task.task_no, task.closed_at)
        parts.objects.put(uri, output.worker_response(answers), _JSON)
        entries.append(output.payload_entry(task.task_no, task.line, answers))
    parts.objects.put(output.request_uri(job, batch.batch_no, batch.created_at), output.payload(entries), _JSON)
    _advance(parts, batch, "written")


def _call(parts: Parts, job: Job, batch: Row[Any]) -> None:
    """written -> called: the Lambda's answer is stored before anything is made of it."""
    now = parts.time.now()
    if not job.spec.post_lambda:
        _advance(parts, batch, "called", called_at=now)
        return
    event = output.post_event(job, output.request_uri(job, batch.batch_no, batch.created_at))
    try:
        response = parts.lambdas.invoke(job.spec.post_lambda, event, parts.limits.post_seconds)
    except (BackendUnavailable, DeadlineExceeded, NotFound) as error:
        if error.reason == "LAMBDA_NOT_READY":
            _advance(parts, batch, "written", retry_at=now + 1.0)
        elif batch.attempts + 1 < parts.limits.tries:
            _advance(parts, batch, "written", attempts=batch.attempts + 1, retry_at=now + 2.0**batch.attempts)
        else:
            _advance(parts, batch, "called", failure=str(error), called_at=now)
        return
    _advance(parts, batch, "called", response=json.dumps(response), called_at=parts.time.now())


def _apply(parts: Parts, job: Job, batch: Row[Any]) -> None:
    """called -> applied: outcomes into the tasks, response and rolling manifest into the object store."""
    rows = _tasks_of(parts, batch)
    if batch.response:
        uri = output.response_uri(job, batch.batch_no, batch.created_at)
        parts.objects.put(uri, batch.response.encode(), _JSON)
    outcomes = {row.task_no: _outcome(job, batch, row) for row in rows}
    lines = [output.output_line(row.line, json.dumps(outcomes[row.task_no][1])) for row in rows]
    parts.objects.put(output.intermediate_uri(job, batch.batch_no), "".join(f"{line}\n" for line in lines).encode())

    def apply(connection: Connection) -> None:
        for number, (state, outcome) in outcomes.items():
            _set_tasks(connection, job, [number], state=state, outcome=json.dumps(outcome))
        connection.execute(_this(batch).values(state="applied"))

    parts.database.write(apply)


def _outcome(job: Job, batch: Row[Any], task: Row[Any]) -> tuple[str, Json]:
    if not job.spec.post_lambda:
        reference = output.worker_response_uri(job, batch.batch_no, task.task_no, task.closed_at)
        return "labeled", output.labeled_outcome(job, {}, batch.called_at, reference)
    content, why = _consolidated(job, batch, task.task_no)
    if content is None:
        reason = f"ClientError: The JSON output from the AnnotationConsolidation Lambda function is not valid: {why}"
        return "failed", output.failed_outcome(job, reason[:1000])
    return "labeled", output.labeled_outcome(job, content, batch.called_at)


def _consolidated(job: Job, batch: Row[Any], task_no: int) -> tuple[Json | None, str]:
    if batch.failure:
        return None, batch.failure
    response = json.loads(batch.response)
    if not isinstance(response, list):
        return None, "it is not a list"
    for entry in response:
        if isinstance(entry, dict) and str(entry.get("datasetObjectId")) == str(task_no):
            consolidated = entry.get("consolidatedAnnotation")
            content = consolidated.get("content") if isinstance(consolidated, dict) else None
            if isinstance(content, dict) and job.spec.attribute in content:
                return content, ""
            return None, f"the entry {task_no} has no content with the key {job.spec.attribute}"
    return None, f"it has no entry with datasetObjectId {task_no}"


def _tasks_of(parts: Parts, batch: Row[Any]) -> list[Row[Any]]:
    with parts.database.read() as connection:
        query = (
            select(tasks.c.task_no, tasks.c.line, tasks.c.closed_at)
            .where(tasks.c.job_id == batch.job_id, tasks.c.batch_no == batch.batch_no)
            .order_by(tasks.c.task_no)
        )
        return list(connection.execute(query))


def _answers(parts: Parts, job: Job, task_no: int) -> list[output.GivenAnswer]:
    columns = (
        assignments.c.worker_id,
        assignments.c.leased_at,
        assignments.c.finished_at,
        assignments.c.active_seconds,
        assignments.c.answer,
    )
    query = (
        select(*columns)
        .where(assignments.c.job_id == job.job_id, assignments.c.task_no == task_no, assignments.c.state == "done")
        .order_by(assignments.c.finished_at, assignments.c.lease_id)
    )
    with parts.database.read() as connection:
        return [output.GivenAnswer(*row) for row in connection.execute(query)]


def _this(batch: Row[Any]) -> Any:
    return update(batches).where(batches.c.job_id == batch.job_id, batches.c.batch_no == batch.batch_no)


def _advance(parts: Parts, batch: Row[Any], state: str, **values: Any) -> None:
    change = _this(batch).where(batches.c.state == batch.state).values(state=state, **values)
    parts.database.write(lambda connection: connection.execute(change))


def _set_tasks(connection: Connection, job: Job, numbers: list[int], **values: Any) -> None:
    if numbers:
        change = update(tasks).where(tasks.c.job_id == job.job_id, tasks.c.task_no.in_(numbers)).values(values)
        connection.execute(change)
