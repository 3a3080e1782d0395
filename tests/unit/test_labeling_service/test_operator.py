# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's numbers: agreement leaves out a worker's own answer, pay is per page, pauses hold, all is logged."""

from __future__ import annotations

from typing import Any

import pytest
from gandt_labeling.service.operator import Operator

from gandt.domain.errors import NotFound


@pytest.fixture
def operator(bench: Any) -> Operator:
    return Operator(bench.database, bench.time)


def test_agreement_pace_and_pay(bench: Any, operator: Operator) -> None:
    bench.create(pages=2, slots=3, tiles=2, Tags=[{"Key": "gandt:pay-usd-micros", "Value": "50000"}])
    good, same, odd, idle = (bench.worker() for _ in range(4))
    for _ in range(2):
        bench.answer(good, "cat")
        bench.answer(same, "cat")
        bench.answer(odd, "dog")
    found = {worker.worker_id: worker for worker in operator.workers()}
    assert found[odd].agreement == 0.0
    assert found[odd].compared == 4
    assert found[good].agreement is None, "the other two contradict each other: they say nothing of this one"
    assert (found[idle].pages, found[idle].page_seconds, found[idle].agreement) == (0, None, None)
    assert (found[good].pages, found[good].page_seconds, found[good].owed_micros) == (2, 4.0, 100_000)
    (job,) = operator.jobs()
    assert (job.answers, job.leases, job.owed_micros) == (6, 0, 300_000)


def test_a_paused_job_gives_no_new_pages_and_its_held_pages_count(bench: Any, operator: Operator) -> None:
    bench.create(pages=2)
    anna, bert = bench.worker(), bench.worker()
    held = bench.lease(anna)
    operator.pause_job("JOB-1", True)
    assert bench.leases.next_task(bert) is None
    assert bench.lease(anna).lease_id == held.lease_id
    bench.leases.submit(held.lease_id, anna, bench.content(held))
    assert bench.leases.next_task(anna) is None
    operator.pause_job("job-1", False)
    assert bench.lease(bert).task_no != held.task_no
    with pytest.raises(NotFound):
        operator.pause_job("job-2", True)


def test_a_paused_worker_gets_no_new_pages_and_is_told_why(bench: Any, operator: Operator) -> None:
    bench.create(pages=2)
    anna, bert = bench.worker(), bench.worker()
    operator.pause_worker(anna, True, "too fast")
    assert bench.leases.next_task(anna) is None
    assert bench.workers.pause_of(anna) == "too fast"
    assert bench.workers.pause_of(bert) is None
    assert bench.lease(bert)
    operator.pause_worker(anna, False)
    assert bench.lease(anna)
    with pytest.raises(NotFound):
        operator.pause_worker("nobody", True)


def test_the_log_tells_who_did_what_newest_first(bench: Any, operator: Operator) -> None:
    bench.create()
    anna = bench.worker()
    operator.pause_job("job-1", True)
    operator.pause_worker(anna, True, "asked to")
    operator.note("export payouts", detail="1 workers")
    assert [(e.actor, e.action, e.object, e.detail) for e in operator.log()] == [
        ("operator", "export payouts", "", "1 workers"),
        ("operator", "pause worker", anna, "asked to"),
        ("operator", "pause job", "job-1", ""),
        ("api", "create job", "job-1", ""),
    ]
    bench.restart()
    assert len(Operator(bench.database, bench.time).log(2)) == 2
