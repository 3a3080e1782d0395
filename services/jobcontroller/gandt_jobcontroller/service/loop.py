# SPDX-License-Identifier: GPL-3.0-or-later
"""The background thread that drives every campaign: one controller at a time leads, the others wait for its lease."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace

from gandt.domain.disk import is_disk_trouble
from gandt.domain.errors import GandtError
from gandt.domain.labeling.campaigns import Campaign, CampaignState
from gandt.domain.labeling.jobs import JobState
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.reconcile import close_campaign, is_passing, take_step
from gandt_jobcontroller.service.troubles import EVERY_CAMPAIGN

LEASE = "loop"
LEASE_SECONDS = 15.0
LONGEST_WAIT_SECONDS = 60.0
LONGEST_DISK_WAIT_SECONDS = 5.0  # a try costs little, and people wait for it after they have made space
MICROS = 1_000_000
WAITING = "waiting: "
_log = logging.getLogger(__name__)


class Loop:
    """Takes the next step of every open campaign, again and again.

    Args:
        holder: this controller's name in the lease.
        poll_seconds: time between two questions about a running job.
    """

    def __init__(self, parts: Parts, holder: str, poll_seconds: float) -> None:
        self._parts = parts
        self._holder = holder
        self._poll_seconds = poll_seconds
        self._wake = threading.Event()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_poll = 0.0
        self._waits: dict[str, tuple[float, float]] = {}  # campaign: (not before, last wait)

    def start(self) -> None:
        """Begin in a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="gandt-loop", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Look now: something has changed."""
        self._wake.set()

    def poll_now(self) -> None:
        """Ask about running jobs now: one is said to have changed."""
        self._next_poll = 0.0
        self._wake.set()

    def close(self) -> None:
        """End after the step at work and give the lease back."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._parts.store.drop_lease(LEASE, self._holder)

    def run_once(self) -> int:
        """One pass over all open campaigns; returns how many actions changed something. 0 when another leads."""
        parts = self._parts
        is_leader = parts.store.take_lease(LEASE, self._holder, parts.clock.now(), LEASE_SECONDS)
        campaigns = parts.store.open_campaigns() if is_leader else []
        parts.troubles.clear(EVERY_CAMPAIGN)
        if not is_leader:
            return 0
        polls = parts.clock.monotonic() >= self._next_poll
        if polls:
            self._next_poll = parts.clock.monotonic() + self._poll_seconds
        changed = sum(self._step(campaign_id, polls) for campaign_id in campaigns)
        if changed or polls:
            report(parts)
        return changed

    def _step(self, campaign_id: str, polls: bool) -> int:
        not_before, last_wait = self._waits.get(campaign_id, (0.0, 0.0))
        if self._parts.clock.monotonic() < not_before:
            return 0
        try:
            changed = take_step(self._parts, campaign_id, polls)
            # Between two polls a step may have tried nothing that needs the disk.
            mended = (changed or polls) and self._parts.troubles.of(campaign_id) is not None
            if (changed or mended) and campaign_id in self._waits:
                self._parts.store.change_campaign(campaign_id, _no_longer_waiting, self._parts.clock.now())
        except GandtError as error:
            return self._stumble(campaign_id, error, last_wait)
        if mended:
            _log.info("campaign %s goes on: the disk can be written again", campaign_id)
            self._parts.troubles.clear(campaign_id)
        if changed or mended:
            self._waits.pop(campaign_id, None)
        return changed

    def _stumble(self, campaign_id: str, error: GandtError, last_wait: float) -> int:
        """Wait and say why, or give the campaign up where waiting cannot help."""
        parts, now = self._parts, self._parts.clock.monotonic()
        try:
            if not is_passing(error):
                _log.warning("campaign %s: %s", campaign_id, error, extra={"reason": error.reason})
                close_campaign(parts, campaign_id, CampaignState.FAILED, str(error))
                return 1
            parts.store.change_campaign(campaign_id, lambda now: _waiting(now, error), parts.clock.now())
        except GandtError as unsaid:  # nobody can be told but from memory
            if not is_disk_trouble(unsaid):
                raise
            error = unsaid if not is_disk_trouble(error) else error
        on_disk = is_disk_trouble(error)
        if not on_disk:
            parts.troubles.clear(campaign_id)
        if not on_disk or parts.troubles.note(campaign_id, error, now):  # a full disk says the same again and again
            _log.warning("campaign %s waits: %s", campaign_id, error, extra={"reason": error.reason})
        wait = min(LONGEST_DISK_WAIT_SECONDS if on_disk else LONGEST_WAIT_SECONDS, max(1.0, last_wait * 2))
        self._waits[campaign_id] = (now + wait, wait)
        return 0

    def _run(self) -> None:
        while not self._ending.is_set():
            self._wake.clear()
            try:
                busy = self.run_once() > 0
            except GandtError as error:
                clock, on_disk = self._parts.clock, is_disk_trouble(error)
                if not on_disk or self._parts.troubles.note(EVERY_CAMPAIGN, error, clock.monotonic()):
                    _log.warning("the loop could not look at its campaigns: %s", error, extra={"reason": error.reason})
                busy = False
            except Exception:  # noqa: BLE001  # the thread must outlive a bug, and the log must show it
                _log.exception("the loop stumbled")
                busy = False
            if not busy:
                self._wake.wait(self._poll_seconds)


def _waiting(now: Campaign, error: GandtError) -> Campaign:
    return now if now.state.is_final else replace(now, message=f"{WAITING}{error}")


def _no_longer_waiting(now: Campaign) -> Campaign:
    return replace(now, message="") if now.message.startswith(WAITING) else now


def report(parts: Parts) -> None:
    """Set the gauges of jobs and money."""
    counts = parts.store.count_jobs()
    for state in JobState:
        parts.meter.set_level("gandt_jobs", counts.get(state, 0), state=state.value)
    oldest = parts.store.oldest_open_job()
    age = (parts.clock.now() - oldest).total_seconds() if oldest else 0.0
    parts.meter.set_level("gandt_job_age_seconds", age)
    newest = parts.store.list_campaigns(0, 1)
    if newest:
        money = newest[0][1].money
        parts.meter.set_level("gandt_budget_limit", money.budget / MICROS)
        parts.meter.set_level("gandt_budget_reserved", money.reserved / MICROS)
        parts.meter.set_level("gandt_budget_spent", money.spent / MICROS)
