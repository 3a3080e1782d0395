# SPDX-License-Identifier: GPL-3.0-or-later
"""Leases and answers: who may get what, what counts, what is refused."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from gandt.domain.errors import InvalidInput, NotFound, WrongState


def test_a_worker_labels_a_page_and_it_lands_in_the_manifest(bench: Any) -> None:
    bench.create()
    worker = bench.worker()
    lease = bench.lease(worker)
    assert [tile["id"] for tile in lease.task_input["taskObject"]] == ["img-0", "img-1"]
    assert (lease.done, lease.remaining) == (0, 0)
    receipt = bench.leases.submit(lease.lease_id, worker, bench.content(lease), 4.5)
    assert receipt.answer_id
    bench.run()
    assert bench.status() == "Completed"
    (line,) = bench.manifest()
    assert line["labels"] == {
        "responses": [{"workerId": worker, "annotation": {"labels-0": '["cat"]', "labels-1": '["cat"]'}}]
    }
    assert bench.leases.next_task(worker) is None


def test_asking_again_returns_the_live_lease(bench: Any) -> None:
    bench.create(pages=3)
    worker = bench.worker()
    first = bench.lease(worker)
    assert bench.lease(worker).lease_id == first.lease_id
    assert bench.lease(worker, "job-1").lease_id == first.lease_id


def test_one_slot_goes_to_one_worker(bench: Any) -> None:
    bench.create(pages=1, slots=1)
    one, two = bench.worker(), bench.worker()
    bench.lease(one)
    assert bench.leases.next_task(two) is None


def test_two_slots_go_to_two_workers_and_both_answers_count(bench: Any) -> None:
    bench.create(pages=1, slots=2)
    one, two, three = bench.worker(), bench.worker(), bench.worker()
    bench.answer(one, "cat")
    bench.run()
    assert bench.leases.next_task(one) is None, "nobody answers a page twice"
    bench.answer(two, "dog")
    assert bench.leases.next_task(three) is None
    bench.run()
    (line,) = bench.manifest()
    assert {response["workerId"] for response in line["labels"]["responses"]} == {one, two}


def test_many_workers_at_once_never_share_a_slot(bench: Any) -> None:
    bench.create(pages=12, slots=2)
    workers = [bench.worker() for _ in range(6)]
    failures: list[BaseException] = []

    def work(worker: str) -> None:
        try:
            while (lease := bench.leases.next_task(worker)) is not None:
                bench.leases.submit(lease.lease_id, worker, bench.content(lease), 1.0)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    bench.run()
    assert bench.status() == "Completed"
    for line in bench.manifest():
        given = [response["workerId"] for response in line["labels"]["responses"]]
        assert len(given) == len(set(given)) == 2


def test_pages_with_most_free_slots_come_first(bench: Any) -> None:
    bench.create(pages=3, slots=2)
    first = [bench.lease(bench.worker()).task_no for _ in range(3)]
    assert sorted(first) == [0, 1, 2]


def test_repeating_a_submit_returns_the_same_receipt(bench: Any) -> None:
    bench.create(slots=2)
    worker = bench.worker()
    lease = bench.lease(worker)
    answer = bench.content(lease)
    receipt = bench.leases.submit(lease.lease_id, worker, answer, 1.0)
    bench.clock.advance(5)
    assert bench.leases.submit(lease.lease_id, worker, dict(reversed(answer.items())), 9.0) == receipt
    with pytest.raises(WrongState) as caught:
        bench.leases.submit(lease.lease_id, worker, bench.content(lease, "dog"), 1.0)
    assert caught.value.reason == "ALREADY_ANSWERED"
    assert bench.meter.value("gandt_labeling_answers_total", result="accepted") == 1
    assert bench.meter.value("gandt_labeling_answers_total", result="repeated") == 1


def test_another_workers_lease_is_as_good_as_none(bench: Any) -> None:
    bench.create()
    lease = bench.lease(bench.worker())
    stranger = bench.worker()
    with pytest.raises(NotFound):
        bench.leases.submit(lease.lease_id, stranger, bench.content(lease))
    with pytest.raises(NotFound):
        bench.leases.get(lease.lease_id, stranger)


def test_an_expired_lease_frees_its_slot_and_keeps_the_draft(bench: Any) -> None:
    bench.create()
    one, two = bench.worker(), bench.worker()
    lease = bench.lease(one)
    bench.leases.save_draft(lease.lease_id, one, {"labels-0": '["cat"]'})
    bench.clock.advance(601)
    taken = bench.lease(two)
    assert taken.task_no == lease.task_no
    assert taken.draft == ""
    with pytest.raises(WrongState) as caught:
        bench.leases.submit(lease.lease_id, one, bench.content(lease))
    assert caught.value.reason == "LEASE_EXPIRED"
    bench.leases.give_back(taken.lease_id, two)
    again = bench.lease(one)
    assert json.loads(again.draft) == bench.content(lease), "the late answer is the new page's draft"


def test_a_late_submit_counts_within_the_grace_while_the_slot_is_free(bench: Any) -> None:
    bench.create()
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.clock.advance(601)
    bench.run()  # the engine expires the lease
    bench.clock.advance(100)
    bench.leases.submit(lease.lease_id, worker, bench.content(lease))
    bench.run()
    assert bench.counters()["HumanLabeled"] == 1


def test_a_submit_after_the_grace_is_refused(bench: Any) -> None:
    bench.create()
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.clock.advance(600 + 121)
    with pytest.raises(WrongState) as caught:
        bench.leases.submit(lease.lease_id, worker, bench.content(lease))
    assert caught.value.reason == "LEASE_EXPIRED"
    assert bench.lease(worker).lease_id != lease.lease_id


def test_a_late_submit_beside_a_newer_lease_of_the_same_worker_is_refused(bench: Any) -> None:
    bench.create(slots=2)
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.clock.advance(601)
    newer = bench.lease(worker)
    assert newer.lease_id != lease.lease_id
    with pytest.raises(WrongState):
        bench.leases.submit(lease.lease_id, worker, bench.content(lease))
    bench.leases.submit(newer.lease_id, worker, bench.content(newer))


def test_declined_never_comes_back_and_returned_does(bench: Any) -> None:
    bench.create(slots=2)
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.leases.give_back(lease.lease_id, worker)
    bench.leases.give_back(lease.lease_id, worker)
    lease = bench.lease(worker)
    bench.leases.decline(lease.lease_id, worker, "I cannot see the photos")
    assert bench.leases.next_task(worker) is None
    with pytest.raises(WrongState) as caught:
        bench.leases.submit(lease.lease_id, worker, bench.content(lease))
    assert caught.value.reason == "LEASE_OVER"


def test_a_page_that_as_many_declined_as_it_has_slots_fails(bench: Any) -> None:
    bench.create(slots=2)
    for _ in range(2):
        worker = bench.worker()
        bench.leases.decline(bench.lease(worker).lease_id, worker)
    bench.run()
    assert bench.status() == "Completed"
    assert bench.counters()["FailedNonRetryableError"] == 1


def test_heartbeat_counts_seconds_and_extends_nothing(bench: Any) -> None:
    bench.create()
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.clock.advance(500)
    assert bench.leases.heartbeat(lease.lease_id, worker, 480.0) == pytest.approx(100)
    bench.leases.submit(lease.lease_id, worker, bench.content(lease), 3.0)
    bench.run()
    (path,) = [path for path in bench.files() if "worker-response" in path]
    assert json.loads(bench.files()[path])["answers"][0]["timeSpentInSeconds"] == 480.0


@pytest.mark.parametrize("answer", [None, [], "text", 3, {"labels-0": "x" * 300_000}])
def test_hostile_answers_are_refused(bench: Any, answer: Any) -> None:
    bench.create()
    worker = bench.worker()
    lease = bench.lease(worker)
    with pytest.raises(InvalidInput):
        bench.leases.submit(lease.lease_id, worker, answer)
    with pytest.raises(InvalidInput):
        bench.leases.save_draft(lease.lease_id, worker, answer)


CAMPAIGN = {"Tags": [{"Key": "gandt:campaign", "Value": "parties"}]}


def shown(lease: Any) -> list[str]:
    return [tile["id"] for tile in lease.task_input["taskObject"]]


def test_a_worker_sees_no_image_twice_in_a_campaign(bench: Any) -> None:
    bench.create("first", pages=1, slots=2, **CAMPAIGN)
    one, two = bench.worker(), bench.worker()
    bench.answer(one)
    bench.create("second", pages=2, slots=1, **CAMPAIGN)  # page 0 shows the same images, page 1 new ones
    assert bench.lease(one, "second").task_no == 1
    assert bench.lease(two, "second").task_no == 0
    bench.leases.give_back(bench.lease(two, "second").lease_id, two)
    assert bench.lease(two, "second").task_no == 0, "the same page may come back, whole"
    assert len(shown(bench.lease(two, "second"))) == 2


def test_a_repacked_page_leaves_out_what_the_worker_has_seen(bench: Any) -> None:
    bench.create("first", pages=2, slots=1, **CAMPAIGN)  # images 0, 1 and 2, 3
    one, two = bench.worker(), bench.worker()
    seen = {shown(bench.answer(worker))[0]: worker for worker in (one, two)}
    group: list[dict[str, Any]] = [
        {"id": f"img-{n}", "source-ref": f"s3://gandt/photos/{n}.png", "index": n} for n in (1, 3, 4)
    ]
    group[0]["event_names"] = ["cat", "dog"]
    bench.objects.put("s3://gandt/in/again.manifest", json.dumps({"source": json.dumps(group)}).encode())
    bench.jobs.create(bench.request("again", 3, **CAMPAIGN))
    bench.run()
    lease = bench.lease(seen["img-0"], "again")
    assert shown(lease) == ["img-3", "img-4"]
    assert lease.task_input["taskObject"][0]["event_names"] == ["cat", "dog"], "the classes move to the first tile"
    assert bench.leases.get(lease.lease_id, seen["img-0"]).task_input == lease.task_input
    assert shown(bench.lease(seen["img-2"], "again")) == ["img-1", "img-4"]
    assert shown(bench.lease(bench.worker(), "again")) == ["img-1", "img-3", "img-4"]


def test_a_page_of_seen_images_only_is_for_others(bench: Any) -> None:
    bench.create("first", pages=1, slots=1, **CAMPAIGN)
    worker = bench.worker()
    bench.answer(worker)
    bench.create("second", pages=1, slots=1, **CAMPAIGN)
    assert bench.leases.next_task(worker) is None
    ((_, _, remaining),) = [found for found in bench.leases.open_jobs(worker) if found[0].spec.name == "second"]
    assert remaining == 0


def test_without_a_campaign_images_may_repeat(bench: Any) -> None:
    bench.create("first", pages=1, slots=1)
    worker = bench.worker()
    bench.answer(worker)
    bench.create("second", pages=1, slots=1)
    assert bench.lease(worker, "second").task_no == 0


def test_progress_counts_own_pages_and_what_is_left(bench: Any) -> None:
    bench.create(pages=5, MaxConcurrentTaskCount=2)
    worker = bench.worker()
    bench.answer(worker)
    bench.run()
    lease = bench.lease(worker)
    assert (lease.done, lease.remaining) == (1, 3)
    ((job, done, remaining),) = bench.leases.open_jobs(worker)
    assert (job.spec.name, done, remaining) == ("job-1", 1, 3)
