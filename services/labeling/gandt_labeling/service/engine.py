# SPDX-License-Identifier: GPL-3.0-or-later
"""The job engine: one `tick` moves every live job as far as it can go now, and says when to look again."""

from __future__ import annotations

import logging
import threading

from sqlalchemy import func, select

from gandt.domain import disk
from gandt.domain.errors import GandtError
from gandt_labeling.service.closing import close_tasks, expire_leases
from gandt_labeling.service.consolidation import consolidate
from gandt_labeling.service.finishing import finish, stop_when_due
from gandt_labeling.service.initializing import initialize
from gandt_labeling.service.opening import open_tasks
from gandt_labeling.service.parts import Parts, count_tasks
from gandt_labeling.service.spec import Job
from gandt_labeling.store.schema import FINAL_TASKS, LIVE_JOBS, assignments, batches, jobs, tasks, workers

IDLE_SECONDS = 30.0
RETRY_SECONDS = 2.0  # after a store or Lambda did not answer
PAUSE_SECONDS = 0.02  # wakes that come closer together are one tick
LEVELS_SECONDS = 5.0
ACTIVE_SECONDS = 600.0

_log = logging.getLogger("gandt.labeling.engine")


class Engine:
    """Runs the jobs. `tick` for tests and callers with their own loop, `start` for a thread of its own.

    Args:
        parts: what its steps share.
        retry_seconds: to wait after a store or Lambda did not answer.
    """

    def __init__(self, parts: Parts, retry_seconds: float = RETRY_SECONDS) -> None:
        self._parts = parts
        self._retry_seconds = retry_seconds
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._levels_at = float("-inf")
        self._troubles: dict[str, GandtError] = {}  # what each job waits for; "" is the engine itself

    def wake(self) -> None:
        """Something changed: tick soon."""
        self._wake.set()

    def start(self) -> None:
        """Tick in a thread until `stop`."""
        self._thread = threading.Thread(target=self._run, name="labeling-engine", daemon=True)
        self._thread.start()

    def begin_stop(self) -> None:
        """Take no new step; does not wait."""
        self._stopped.set()
        self._wake.set()

    def stop(self) -> None:
        """End the thread after the step it is in; whatever is half done goes on at the next start."""
        self.begin_stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def disk_trouble(self, name: str) -> GandtError | None:
        """The full or read-only disk that a job waits for; None when it waits for nothing of that kind."""
        found = self._troubles.get(name) or self._troubles.get("")
        return found if found is not None and disk.is_disk_trouble(found) else None

    def tick(self) -> float:
        """Move every live job once.

        Returns:
            Seconds until there is something to do without a wake; 0 when this tick changed something.
        """
        changed = self._parts.database.write(lambda c: expire_leases(c, self._parts.time.now())) > 0
        troubles: dict[str, GandtError] = {}
        for job in self._parts.jobs_in(LIVE_JOBS):
            if self._stopped.is_set():
                break
            try:
                changed |= self._advance(job)
            except GandtError as error:  # one job's trouble must not hold up the others
                troubles[job.spec.name] = error
                if str(self._troubles.get(job.spec.name)) != str(error):  # a full disk says the same every 2 s
                    _log.warning("job %s waits: %s", job.spec.name, error, extra={"reason": error.reason})
        self._troubles = troubles
        self._report_levels()
        if troubles:
            return self._retry_seconds
        return 0.0 if changed else self._seconds_to_next()

    def _advance(self, job: Job) -> bool:
        parts = self._parts
        if job.status == "Initializing":
            return initialize(parts, job)
        changed = job.status == "InProgress" and open_tasks(parts, job)
        changed |= close_tasks(parts, job)
        changed |= consolidate(parts, job)
        if job.status == "InProgress" and stop_when_due(parts, job):
            return True
        return finish(parts, job) or changed

    def _run(self) -> None:
        wait = 0.0
        while not self._stopped.is_set():
            if wait > 0:
                self._wake.wait(wait)
            self._wake.clear()
            try:
                wait = self.tick()
            except GandtError as error:
                if str(self._troubles.get("")) != str(error):
                    _log.error("the engine waits: %s", error, extra={"reason": error.reason})
                self._troubles = {**self._troubles, "": error}
                wait = self._retry_seconds
            except Exception:  # noqa: BLE001 - logged with its trace; the jobs of other people go on
                _log.exception("the engine met a bug; it goes on with the next tick")
                wait = IDLE_SECONDS
            self._stopped.wait(PAUSE_SECONDS)

    def _seconds_to_next(self) -> float:
        now = self._parts.time.now()
        limits = self._parts.limits
        live = jobs.c.status.in_(LIVE_JOBS)
        of_live_job = tasks.c.job_id.in_(select(jobs.c.job_id).where(live))
        moments = (
            select(func.min(assignments.c.expires_at)).where(assignments.c.state == "leased"),
            select(func.min(tasks.c.expires_at)).where(of_live_job, tasks.c.state == "open"),
            select(func.min(tasks.c.retry_at)).where(of_live_job, tasks.c.state == "waiting", tasks.c.retry_at > now),
            select(func.min(tasks.c.closed_at) + limits.batch_seconds).where(of_live_job, tasks.c.state == "closed"),
            select(func.min(batches.c.retry_at)).where(batches.c.state != "applied"),
            select(func.min(jobs.c.stop_at)).where(jobs.c.status == "Stopping"),
        )
        with self._parts.database.read() as connection:
            found: list[float | None] = [connection.execute(query).scalar() for query in moments]
            starting = connection.execute(select(func.count()).where(jobs.c.status == "Initializing")).scalar()
        # An expiry that a live lease holds up lies in the past: never spin on it.
        waits = [max(moment - now, 0.25) for moment in found if moment is not None]
        if starting:
            waits.append(self._retry_seconds)
        return min([*waits, IDLE_SECONDS])

    def _report_levels(self) -> None:
        now = self._parts.time.now()
        if now - self._levels_at < LEVELS_SECONDS:
            return
        self._levels_at = now
        of_live_job = tasks.c.job_id.in_(select(jobs.c.job_id).where(jobs.c.status.in_(LIVE_JOBS)))
        with self._parts.database.read() as connection:
            counts = count_tasks(connection, of_live_job)
            leased = connection.execute(select(func.count()).where(assignments.c.state == "leased")).scalar()
            active = connection.execute(select(func.count()).where(workers.c.seen_at > now - ACTIVE_SECONDS)).scalar()
        meter = self._parts.meter
        for state in ("waiting", "open", "closed", "batched", *FINAL_TASKS):
            meter.set_level("gandt_labeling_tasks", counts.get(state, 0), state=state)
        meter.set_level("gandt_labeling_leases", leased or 0)
        meter.set_level("gandt_labeling_active_workers", active or 0)
