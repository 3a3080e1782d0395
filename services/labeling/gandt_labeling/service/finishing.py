# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of a job: stop conditions, the output manifest, the terminal state."""

from __future__ import annotations

from sqlalchemy import select

from gandt_labeling.service.initializing import load_unreached
from gandt_labeling.service.jobs import begin_stop
from gandt_labeling.service.output import output_line
from gandt_labeling.service.parts import Parts, count_tasks
from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import FINAL_TASKS, tasks

TOO_OLD = "ClientError: The labeling job was not finished within 30 days."


def stop_when_due(parts: Parts, job: Job) -> bool:
    """Stop a running job that reached its StoppingConditions or its greatest age; says whether it did."""
    counts = _counts(parts, job)
    now = parts.time.now()
    limit = job.spec.labeled_limit(sum(counts.values()))
    left = sum(count for state, count in counts.items() if state not in FINAL_TASKS)
    if left and limit is not None and counts.get("labeled", 0) >= limit:
        parts.database.write(lambda connection: begin_stop(connection, job, now))
        return True
    if now - job.created_at > parts.limits.job_seconds:
        parts.database.write(lambda connection: begin_stop(connection, job, now, TOO_OLD))
        return True
    return False


def finish(parts: Parts, job: Job) -> bool:
    """Write the output manifest and end the job when every task has its end; says whether it did."""
    counts = _counts(parts, job)
    if not counts and job.status == "Stopping":
        load_unreached(parts, job)  # stopped before its manifest was read
    elif not counts or any(state not in FINAL_TASKS for state in counts):
        return False
    # The put is atomic and comes first: a job that says Completed has its manifest. After a crash in between, the
    # same lines are written again.
    parts.objects.put(job.spec.manifest_out, _manifest(parts, job), "application/jsonlines")
    status = "Stopped" if job.status == "Stopping" else "Completed"
    return parts.set_job(job, (job.status,), status=status)


def _manifest(parts: Parts, job: Job) -> bytes:
    query = select(tasks.c.line, tasks.c.outcome).where(tasks.c.job_id == job.job_id).order_by(tasks.c.task_no)
    with parts.database.read() as connection:
        return "".join(f"{output_line(line, outcome)}\n" for line, outcome in connection.execute(query)).encode()


def _counts(parts: Parts, job: Job) -> dict[str, int]:
    with parts.database.read() as connection:
        return count_tasks(connection, tasks.c.job_id == job.job_id)
