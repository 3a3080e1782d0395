# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's side: get a task, keep a draft, submit, decline, give back.

A lease is granted by compare-and-set on the task's free slots plus a unique index on (job, task, worker), and its id
is the idempotency key of submit. A use case that must keep something although it refuses (a late answer stays as a
draft) returns the error out of its transaction and raises it afterwards.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select, update

from gandt.domain.errors import GandtError, NotFound, WrongState
from gandt.ports.meter import Meter
from gandt_labeling.service import answers, candidates
from gandt_labeling.service.closing import expire_leases, free_slot
from gandt_labeling.service.conduct import NO_RULES, Conduct, judge
from gandt_labeling.service.spec import Job, job_of
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.service.tiles import without_images
from gandt_labeling.service.workers import may_work, touch
from gandt_labeling.store.database import Database
from gandt_labeling.store.schema import assignments, jobs, seen_images, task_images, tasks


@dataclass(frozen=True, slots=True)
class Lease:
    """One worker's hold on one task.

    Attributes:
        expires_at: epoch seconds.
        seconds_left: until then, never negative; for clients whose clock is wrong.
        draft: JSON text of the answer so far, "" when there is none.
        task_input: what the pre-annotation Lambda made of the manifest line, without the images that this worker
            has seen on another page of the campaign.
        done: tasks of this job that the worker has submitted.
        remaining: tasks of this job that the worker may still get, at most.
    """

    lease_id: str
    job: Job
    task_no: int
    worker_id: str
    state: str
    expires_at: float
    seconds_left: float
    draft: str
    task_input: Any
    done: int
    remaining: int


@dataclass(frozen=True, slots=True)
class Upcoming:
    """A task that a worker may get next."""

    job_id: int
    task_no: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof of a stored answer; the same for every repeat of the submit."""

    answer_id: str
    lease_id: str
    submitted_at: float


class Leases:
    """Use cases of the worker portal and of simulated workers.

    Args:
        grace_seconds: how late a submit may come while its slot is still free.
        wake: tells the engine that a task is complete.
        conduct: rules that pause workers by themselves.
    """

    def __init__(
        self,
        database: Database,
        time: SteadyClock,
        meter: Meter,
        grace_seconds: float,
        wake: Callable[[], None],
        conduct: Conduct = NO_RULES,
    ) -> None:
        self._conduct = conduct
        self._database = database
        self._time = time
        self._meter = meter
        self._grace = grace_seconds
        self._wake = wake

    def next_task(self, worker_id: str, job_name: str = "", prefer: Upcoming | None = None) -> Lease | None:
        """The worker's live lease, or a new one, or None when there is nothing for this worker now.

        Args:
            job_name: only tasks of this job; "" for any.
            prefer: the task that the worker's browser has loaded ahead; taken if the worker may still get it.
        """
        return self._database.write(lambda connection: self._next(connection, worker_id, job_name, prefer))

    def upcoming(self, worker_id: str) -> Upcoming | None:
        """The task that the worker would get next, so that its page can be loaded ahead; nothing is held."""
        with self._database.read() as connection:
            for job in _running(connection, "") if may_work(connection, worker_id) else []:
                task_no = candidates.choose(connection, job, worker_id)
                if task_no is not None:
                    return Upcoming(job.job_id, task_no)
        return None

    def page_ahead(self, worker_id: str, ahead: Upcoming) -> tuple[Job, Any]:
        """Job and task input of a page that is loaded ahead, as this worker would see it.

        Raises:
            NotFound: the task is not open any more, or its job or the worker is paused.
        """
        with self._database.read() as connection:
            query = select(jobs).where(jobs.c.job_id == ahead.job_id, jobs.c.status == "InProgress", jobs.c.paused == 0)
            row = connection.execute(query).first() if may_work(connection, worker_id) else None
            task = (tasks.c.job_id == ahead.job_id, tasks.c.task_no == ahead.task_no, tasks.c.state == "open")
            if row is None or connection.execute(select(tasks.c.task_no).where(*task)).first() is None:
                raise NotFound("this page is gone", kind="task", id=str(ahead.task_no))
            job = job_of(row)
            return job, _task_input(connection, job, ahead.task_no, worker_id)

    def get(self, lease_id: str, worker_id: str) -> Lease:
        """A lease of this worker, in whatever state.

        Raises:
            NotFound: no such lease, or another worker's.
        """
        with self._database.read() as connection:
            return _lease(connection, _row(connection, lease_id, worker_id), self._time.now())

    def page(self, lease_id: str, worker_id: str) -> tuple[Job, Any]:
        """Job and task input of a lease of this worker, for its page.

        Raises:
            NotFound: no such lease, or another worker's.
        """
        with self._database.read() as connection:
            row = _row(connection, lease_id, worker_id)
            job = job_of(connection.execute(select(jobs).where(jobs.c.job_id == row.job_id)).one())
            return job, _task_input(connection, job, row.task_no, worker_id)

    def save_draft(self, lease_id: str, worker_id: str, draft: Any) -> None:
        """Keep an unfinished answer; it outlives the lease.

        Raises:
            InvalidInput: not a JSON object, or larger than 256 KiB.
            NotFound, WrongState: no such lease; the lease is answered or given back.
        """
        text = answers.answer_text(draft)

        def keep(connection: Connection) -> None:
            row = _row(connection, lease_id, worker_id)
            if row.state not in ("leased", "expired", "closed"):
                raise answers.over(row)
            _set(connection, lease_id, draft=text)
            touch(connection, worker_id, self._time.now())

        self._database.write(keep)

    def heartbeat(self, lease_id: str, worker_id: str, active_seconds: float) -> float:
        """Note that the worker is there; extends nothing. Returns the seconds left, never negative."""
        now = self._time.now()

        def note(connection: Connection) -> float:
            row = _row(connection, lease_id, worker_id)
            if row.state == "leased":
                seconds = min(answers.seconds(active_seconds), row.expires_at - row.leased_at)  # a page has no more
                _set(connection, lease_id, active_seconds=max(row.active_seconds, seconds))
            touch(connection, worker_id, now)
            return max(0.0, float(row.expires_at) - now) if row.state == "leased" else 0.0

        return self._database.write(note)

    def submit(self, lease_id: str, worker_id: str, answer: Any, active_seconds: float = 0.0) -> Receipt:
        """Store an answer for ever; it is durable when this returns, and a repeat returns the same receipt.

        Raises:
            InvalidInput: not a JSON object, or larger than 256 KiB.
            NotFound: no such lease, or another worker's.
            WrongState: other content was submitted before (ALREADY_ANSWERED), the lease ran out and its slot is
                gone (LEASE_EXPIRED; the answer is kept as a draft), or it was given back (LEASE_OVER).
        """
        text = answers.answer_text(answer)
        seconds = answers.seconds(active_seconds)
        outcome = self._database.write(lambda c: self._submit(c, lease_id, worker_id, text, seconds))
        if isinstance(outcome, GandtError):
            self._meter.increment("gandt_labeling_answers_total", result=outcome.reason.lower())
            raise outcome
        receipt, fresh, complete = outcome
        self._meter.increment("gandt_labeling_answers_total", result="accepted" if fresh else "repeated")
        if fresh:
            self._meter.observe("gandt_labeling_answer_seconds", seconds)
        if complete:
            self._wake()
        return receipt

    def decline(self, lease_id: str, worker_id: str, reason: str = "") -> None:
        """Give the task back for good: this worker does not get it again. Repeats are no error."""
        self._end(lease_id, worker_id, "declined", reason)

    def give_back(self, lease_id: str, worker_id: str) -> None:
        """Give the task back for now: anybody may get it, this worker too. Repeats are no error."""
        self._end(lease_id, worker_id, "returned", "")

    def open_jobs(self, worker_id: str) -> list[tuple[Job, int, int]]:
        """Running jobs with how many tasks this worker did and how many it may still get, oldest job first."""
        with self._database.read() as connection:
            return [(job, *candidates.progress(connection, job, worker_id)) for job in _running(connection, "")]

    def _next(
        self, connection: Connection, worker_id: str, job_name: str, prefer: Upcoming | None = None
    ) -> Lease | None:
        now = self._time.now()
        touch(connection, worker_id, now)
        expire_leases(connection, now)
        held = (
            select(assignments)
            .join(jobs, jobs.c.job_id == assignments.c.job_id)
            .where(assignments.c.worker_id == worker_id, assignments.c.state == "leased")
        )
        if job_name:
            held = held.where(jobs.c.name_key == job_name.lower())
        row = connection.execute(held.order_by(assignments.c.leased_at).limit(1)).first()
        if row is not None:
            return _lease(connection, row, now)
        if not may_work(connection, worker_id):
            return None
        for job in _running(connection, job_name):
            wanted = prefer.task_no if prefer is not None and prefer.job_id == job.job_id else None
            task_no = candidates.choose(connection, job, worker_id, wanted)
            if task_no is not None:
                row = self._grant(connection, job, task_no, worker_id, now)
                return _lease(connection, row, now, job)
        return None

    def _grant(self, connection: Connection, job: Job, task_no: int, worker_id: str, now: float) -> Row[Any]:
        if not _take_slot(connection, job.job_id, task_no, job.spec.slots):
            raise WrongState("the task was taken a moment ago", kind="task", id=str(task_no), reason="TASK_TAKEN")
        this = (assignments.c.job_id == job.job_id, assignments.c.task_no == task_no)
        earlier = select(assignments.c.draft).where(*this, assignments.c.worker_id == worker_id)
        draft = connection.execute(earlier.order_by(assignments.c.leased_at.desc()).limit(1)).scalar()
        values = {
            "lease_id": secrets.token_urlsafe(18),
            "job_id": job.job_id,
            "task_no": task_no,
            "worker_id": worker_id,
            "state": "leased",
            "leased_at": now,
            "expires_at": now + job.spec.time_limit,
            "draft": draft or "",
        }
        connection.execute(assignments.insert().values(values))
        if job.campaign:
            _remember(connection, job, task_no, worker_id)
        return _row(connection, str(values["lease_id"]), worker_id)

    def _submit(
        self, connection: Connection, lease_id: str, worker_id: str, text: str, active_seconds: float
    ) -> tuple[Receipt, bool, bool] | GandtError:
        now = self._time.now()
        row = _row(connection, lease_id, worker_id)
        digest = answers.digest(text)
        if row.state == "done":
            if row.answer_sha256 != digest:
                return answers.already_answered(row)
            return Receipt(row.answer_id, lease_id, row.finished_at), False, False
        if row.state in ("declined", "returned"):
            return answers.over(row)
        job = job_of(connection.execute(select(jobs).where(jobs.c.job_id == row.job_id)).one())
        if not self._still_holds(connection, row, job, now):
            _set(connection, lease_id, draft=text)
            return answers.expired(row)
        values = {
            "state": "done",
            "finished_at": now,
            "answer_id": f"a-{lease_id}",
            "answer": text,
            "answer_sha256": digest,
            "active_seconds": max(row.active_seconds, min(active_seconds, job.spec.time_limit)),
        }
        _set(connection, lease_id, **values)
        task = (tasks.c.job_id == row.job_id, tasks.c.task_no == row.task_no)
        connection.execute(update(tasks).where(*task).values(done=tasks.c.done + 1))
        complete = update(tasks).where(*task, tasks.c.state == "open", tasks.c.done >= job.spec.slots)
        closed = connection.execute(complete.values(state="closed", closed_at=now)).rowcount > 0
        touch(connection, worker_id, now)
        judge(connection, self._conduct, worker_id, now)
        return Receipt(f"a-{lease_id}", lease_id, now), True, closed

    def _still_holds(self, connection: Connection, row: Row[Any], job: Job, now: float) -> bool:
        """Whether a submit on this lease counts; a late one takes its slot again if it is still free."""
        in_time = bool(now <= row.expires_at + self._grace)
        if row.state == "leased":
            if not in_time:
                free_slot(connection, row.lease_id, row.job_id, row.task_no, "expired", now)
            return in_time
        if row.state != "expired" or not in_time:
            return False
        again = select(func.count()).where(
            assignments.c.job_id == row.job_id,
            assignments.c.task_no == row.task_no,
            assignments.c.worker_id == row.worker_id,
            assignments.c.state.in_(candidates.HOLDS),
        )
        if connection.execute(again).scalar():
            return False  # the worker has the page on a newer lease
        return _take_slot(connection, row.job_id, row.task_no, job.spec.slots)

    def _end(self, lease_id: str, worker_id: str, state: str, reason: str) -> None:
        def end(connection: Connection) -> None:
            row = _row(connection, lease_id, worker_id)
            if row.state == "leased":
                free_slot(connection, lease_id, row.job_id, row.task_no, state, self._time.now(), reason[:1000])
            elif row.state not in (state, "expired", "closed"):
                raise answers.over(row)
            touch(connection, worker_id, self._time.now())

        self._database.write(end)
        self._wake()


def _running(connection: Connection, job_name: str) -> list[Job]:
    query = (
        select(jobs).where(jobs.c.status == "InProgress", jobs.c.paused == 0).order_by(jobs.c.created_at, jobs.c.job_id)
    )
    if job_name:
        query = query.where(jobs.c.name_key == job_name.lower())
    return [job_of(row) for row in connection.execute(query)]


def _row(connection: Connection, lease_id: str, worker_id: str) -> Row[Any]:
    row = connection.execute(select(assignments).where(assignments.c.lease_id == lease_id)).first()
    if row is None or row.worker_id != worker_id:  # another worker's lease is as good as none
        raise NotFound("there is no such lease", kind="lease", id=lease_id, fix="ask for the next task")
    return row


def _lease(connection: Connection, row: Row[Any], now: float, job: Job | None = None) -> Lease:
    if job is None:
        job = job_of(connection.execute(select(jobs).where(jobs.c.job_id == row.job_id)).one())
    done, remaining = candidates.progress(connection, job, row.worker_id)
    return Lease(
        lease_id=row.lease_id,
        job=job,
        task_no=row.task_no,
        worker_id=row.worker_id,
        state=row.state,
        expires_at=row.expires_at,
        seconds_left=max(0.0, row.expires_at - now),
        draft=row.draft,
        task_input=_task_input(connection, job, row.task_no, row.worker_id),
        done=done,
        remaining=remaining,
    )


def _task_input(connection: Connection, job: Job, task_no: int, worker_id: str) -> Any:
    """The page as this worker sees it."""
    query = select(tasks.c.input).where(tasks.c.job_id == job.job_id, tasks.c.task_no == task_no)
    hidden = candidates.hidden_images(connection, job, task_no, worker_id)
    return without_images(json.loads(connection.execute(query).scalar_one()), hidden)


def _take_slot(connection: Connection, job_id: int, task_no: int, slots: int) -> bool:
    change = (
        update(tasks)
        .where(tasks.c.job_id == job_id, tasks.c.task_no == task_no, tasks.c.state == "open", tasks.c.taken < slots)
        .values(taken=tasks.c.taken + 1)
    )
    return connection.execute(change).rowcount == 1


def _remember(connection: Connection, job: Job, task_no: int, worker_id: str) -> None:
    """Note every image of the page as seen by this worker in the campaign; the first sighting stays."""
    shown = select(task_images.c.image_id).where(task_images.c.job_id == job.job_id, task_images.c.task_no == task_no)
    known = select(seen_images.c.image_id).where(
        seen_images.c.campaign == job.campaign,
        seen_images.c.worker_id == worker_id,
        seen_images.c.image_id == task_images.c.image_id,
    )
    fresh = connection.execute(shown.where(~known.exists())).scalars().all()
    if fresh:
        base = {"campaign": job.campaign, "worker_id": worker_id, "job_id": job.job_id, "task_no": task_no}
        connection.execute(seen_images.insert(), [{**base, "image_id": image} for image in fresh])


def _set(connection: Connection, lease_id: str, **values: Any) -> None:
    connection.execute(update(assignments).where(assignments.c.lease_id == lease_id).values(values))
