# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules that pause a worker: a cap on pages, and pages that are too fast to be looked at."""

from __future__ import annotations

from typing import Any

import pytest
from gandt_labeling.service.conduct import Conduct
from gandt_labeling.service.leases import Leases
from gandt_labeling.service.operator import Operator


def work(bench: Any, conduct: Conduct, seconds: list[float]) -> tuple[str, int]:
    """A worker does pages of these active seconds while there are some for them: (worker id, pages done)."""
    bench.create(pages=len(seconds) + 1)
    leases = Leases(bench.database, bench.time, bench.meter, 120.0, bench.engine.wake, conduct)
    worker, done = bench.worker(), 0
    for each in seconds:
        lease = leases.next_task(worker)
        if lease is None:
            break
        leases.submit(lease.lease_id, worker, bench.content(lease), each)
        bench.clock.sleep(1.0)
        done += 1
    return worker, done


def test_a_cap_ends_a_workers_pages(bench: Any) -> None:
    worker, done = work(bench, Conduct(max_pages=3), [9.0] * 6)
    assert done == 3
    assert bench.workers.pause_of(worker) == "3 pages are done, the most that one worker may do"
    first = Operator(bench.database, bench.time).log(1)[0]
    assert (first.actor, first.action, first.object) == ("service", "pause worker", worker)
    assert bench.leases.next_task(bench.worker()) is not None, "others go on"


@pytest.mark.parametrize(
    ("seconds", "done"),
    [([1.0] * 8, 5), ([1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 1.0, 1.0], 8), ([9.0] * 4 + [1.0] * 4, 7)],
    ids=["always", "seldom", "later"],
)
def test_a_worker_who_is_too_fast_is_paused(bench: Any, seconds: list[float], done: int) -> None:
    worker, pages = work(bench, Conduct(least_page_seconds=4.0), seconds)
    assert pages == done
    assert (bench.workers.pause_of(worker) is not None) == (done < 8)


def test_without_rules_nobody_is_paused(bench: Any) -> None:
    worker, done = work(bench, Conduct(), [0.0] * 8)
    assert done == 8
    assert bench.workers.pause_of(worker) is None
