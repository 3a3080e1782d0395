# SPDX-License-Identifier: GPL-3.0-or-later
"""Open -> closed: all slots answered, availability over, everybody declined, or the job stopping."""

from __future__ import annotations

from sqlalchemy import Connection, and_, or_, select, update

from gandt_labeling.service.parts import Parts
from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import assignments, tasks


def expire_leases(connection: Connection, now: float) -> int:
    """Free the slots of leases that ran out; their drafts stay. Returns how many there were."""
    over = and_(assignments.c.state == "leased", assignments.c.expires_at <= now)
    rows = connection.execute(
        select(assignments.c.lease_id, assignments.c.job_id, assignments.c.task_no).where(over)
    ).all()
    for row in rows:
        free_slot(connection, row.lease_id, row.job_id, row.task_no, "expired", now)
    return len(rows)


def free_slot(
    connection: Connection, lease_id: str, job_id: int, task_no: int, state: str, now: float, reason: str = ""
) -> bool:
    """End a live lease without an answer: compare-and-set from `leased` to `state`; says whether it was live."""
    change = (
        update(assignments)
        .where(assignments.c.lease_id == lease_id, assignments.c.state == "leased")
        .values(state=state, finished_at=now, reason=reason)
    )
    if connection.execute(change).rowcount == 0:
        return False
    freed = {"taken": tasks.c.taken - 1}
    if state == "declined":
        freed["declined"] = tasks.c.declined + 1
    connection.execute(update(tasks).where(tasks.c.job_id == job_id, tasks.c.task_no == task_no).values(freed))
    return True


def close_tasks(parts: Parts, job: Job) -> bool:
    """Close what is over; a stopping job also cuts leases at its `stop_at` and gives up what was never opened."""
    return parts.database.write(lambda connection: _close(connection, job, parts.time.now()))


def _close(connection: Connection, job: Job, now: float) -> bool:
    changed = False
    stopping = job.status == "Stopping"
    if stopping:
        changed |= _give_up_waiting(connection, job)
        if job.stop_at is not None and now >= job.stop_at:
            changed |= _cut_leases(connection, job, now)
    done = tasks.c.done >= job.spec.slots
    over = tasks.c.expires_at <= now
    refused = tasks.c.declined >= job.spec.slots
    # A worker who holds the page may finish it: only a task without live leases closes.
    idle = tasks.c.taken == tasks.c.done
    change = update(tasks).where(tasks.c.job_id == job.job_id, tasks.c.state == "open", idle)
    if not stopping:
        change = change.where(or_(done, over, refused))
    closed = connection.execute(change.values(state="closed", closed_at=now)).rowcount
    return changed or closed > 0


def _give_up_waiting(connection: Connection, job: Job) -> bool:
    change = update(tasks).where(tasks.c.job_id == job.job_id, tasks.c.state == "waiting").values(state="unreached")
    return connection.execute(change).rowcount > 0


def _cut_leases(connection: Connection, job: Job, now: float) -> bool:
    live = and_(assignments.c.job_id == job.job_id, assignments.c.state == "leased")
    rows = connection.execute(select(assignments.c.lease_id, assignments.c.task_no).where(live)).all()
    for row in rows:
        free_slot(connection, row.lease_id, job.job_id, row.task_no, "closed", now)
    return bool(rows)
