# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that pause a worker by themselves: a cap on pages, and answers that come too fast to be read.

A pause stops new pages only. It is written into the audit log, and the operator lifts it with one click; a worker who
was resumed after the cap is paused again with the next page.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from gandt_labeling.service import audit
from gandt_labeling.store.schema import assignments, workers

PAGES_JUDGED = 5  # one quick page says nothing


@dataclass(frozen=True, slots=True)
class Conduct:
    """The deployment's rules; 0 switches one off.

    Attributes:
        max_pages: pages that one worker may submit in all.
        least_page_seconds: median active seconds of the last pages below which a worker is paused.
    """

    max_pages: int = 0
    least_page_seconds: float = 0.0


NO_RULES = Conduct()


def judge(connection: Connection, conduct: Conduct, worker_id: str, now: float) -> str:
    """Pause the worker if a rule says so, after a submit; returns why, "" otherwise."""
    reason = _breach(connection, conduct, worker_id)
    if reason:
        values = {"state": "paused", "state_reason": reason}
        connection.execute(update(workers).where(workers.c.worker_id == worker_id).values(values))
        audit.note(connection, now, "service", "pause worker", worker_id, reason)
    return reason


def _breach(connection: Connection, conduct: Conduct, worker_id: str) -> str:
    mine = (assignments.c.worker_id == worker_id, assignments.c.state == "done")
    if conduct.max_pages:
        pages = connection.execute(select(func.count()).where(*mine)).scalar_one()
        if pages >= conduct.max_pages:
            return f"{pages} pages are done, the most that one worker may do"
    if conduct.least_page_seconds:
        query = select(assignments.c.active_seconds).where(*mine).order_by(assignments.c.finished_at.desc())
        seconds = connection.execute(query.limit(PAGES_JUDGED)).scalars().all()
        if len(seconds) == PAGES_JUDGED and statistics.median(seconds) < conduct.least_page_seconds:
            return f"the last pages took {statistics.median(seconds):.1f} s each, which is too fast to look at them"
    return ""
