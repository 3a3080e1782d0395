# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns that run by themselves, to their end and through every crash."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from gandt_jobcontroller.service.peers import AggregationQuestion
from gandt_jobcontroller.service.reconcile import is_passing
from sqlalchemy.exc import OperationalError

from gandt.adapters.sql_jobs import SqlJobs
from gandt.domain.errors import BackendUnavailable, InvalidInput, Overloaded, WrongState
from gandt.domain.labeling.campaigns import CampaignState, StopRule
from gandt.domain.labeling.jobs import BackendState, JobState
from gandt.domain.labeling.rounds import PageGroup, RoundState
from tests.unit.jobcontroller.world import Killed, World, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def check_books(world: World) -> None:
    """What must hold whatever happened: one job a name, money once, every answer that the backend has."""
    campaign = world.controller.campaigns.get("")
    jobs = world.store.list_jobs(campaign.campaign_id)
    assert Counter(job.request.manifest_uri for job in jobs if job.state is JobState.SETTLED).most_common(1)[0][1] == 1
    names = {job.job_name for job in jobs}
    assert set(world.backend.jobs) <= names
    assert campaign.money.reserved == 0
    assert campaign.money.spent == sum(job.cost for job in jobs)
    assert campaign.money.spent <= campaign.money.budget
    given = sum(len(form) for job in world.backend.jobs.values() for forms in job.forms.values() for _, form in forms)
    assert campaign.answers == given
    for name, job in world.backend.jobs.items():
        pages, workers = len(job.lines), job.request.workers
        cost = pages * (80_000 + workers * 36_000)
        assert world.store.get_job(name).cost == cost


def test_a_label_that_becomes_doubtful_later_is_asked_again(world: World) -> None:
    world.add_images(24)
    wrong: list[str] = []

    def say(worker: str, image_id: str) -> list[str]:
        """The first team calls one image wrong; later workers know better."""
        if not wrong:
            wrong.append(image_id)
        right = world.truth[image_id]
        lies = image_id == wrong[0] and worker.startswith("w")
        return [("dog" if right == "cat" else "cat") if lies else right]

    sure = world.aggregator.wants_more
    doubts: list[int] = []

    def wants_more(question: AggregationQuestion, max_answers: int) -> set[str]:
        """Once a second round is in, the first team is known, and its label no longer certain."""
        images = {answer.image_id for answer in question.answers}
        given = [answer for answer in question.answers if answer.image_id == wrong[0]]
        doubtful = len(images) > 10 and len(given) < max_answers
        doubts.append(doubtful)
        return sure(question, max_answers) | ({wrong[0]} if doubtful else set())

    world.aggregator.wants_more = wants_more  # type: ignore[method-assign]
    world.controller.campaigns.create(spec(max_workers_per_image=9), "q", manual=False)
    world.run(say=say)
    campaign = world.controller.campaigns.get("")
    assert (campaign.state, campaign.labeled) == (CampaignState.COMPLETED, 24)
    labels, _, _ = world.controller.catalog.list_labels("", "", False, 0, "")
    by_id = {label.image_id: label for label in labels}
    assert (by_id[wrong[0]].labels, by_id[wrong[0]].answers, by_id[wrong[0]].round) == ((world.truth[wrong[0]],), 9, 1)
    assert {label.image_id: label.labels[0] for label in labels} == world.truth
    assert doubts.count(True) == 6
    rounds, _ = world.controller.rounds.list_rounds("", 0, "")
    assert [r.state for r in rounds] == [RoundState.AGGREGATED] * 3
    jobs, _ = world.controller.rounds.list_jobs("", rounds[1].round_id, 0, "")
    assert [(job.images, job.workers_per_page) for job in jobs] == [(10, 3), *[(1, 1)] * 6]
    check_books(world)


def test_a_refused_repeat_keeps_the_images_of_earlier_rounds(world: World) -> None:
    world.add_images(24)
    world.controller.campaigns.create(spec(max_workers_per_image=4), "", manual=True)
    steps = world.controller.rounds
    doubtful: set[str] = set()
    world.aggregator.wants_more = lambda question, max_answers: doubtful  # type: ignore[method-assign]
    for _ in range(2):
        steps.create("", 0, "", "")
        steps.create_job("", "")
        world.work()
        steps.collect("")
        done = steps.aggregate("")
        doubtful = doubtful or {steps.get("").picks[0].image_id}
    (old,) = doubtful
    assert (done.round.number, done.need_answers, done.round.pending) == (2, 1, (PageGroup((old,), 1),))
    world.backend.faults = [InvalidInput("the role is wrong")]
    with pytest.raises(InvalidInput):
        steps.create_job("", "")
    assert steps.get("").pending == (PageGroup((old,), 1),)
    assert steps.create_job("", "").images == 1


def test_a_campaign_runs_until_nothing_is_left(world: World) -> None:
    world.add_images(24)
    world.controller.campaigns.create(spec(), "q", manual=False)
    world.run()
    campaign = world.controller.campaigns.get("")
    assert (campaign.state, campaign.message) == (CampaignState.COMPLETED, "no image is left to select")
    assert (campaign.rounds, campaign.labeled, campaign.targets_found) == (3, 24, 8)
    assert campaign.answers == 72
    labels, _, total = world.controller.catalog.list_labels("", "", False, 0, "")
    assert total == 24
    assert {label.image_id: label.labels[0] for label in labels} == world.truth
    assert {label.round for label in labels} == {1, 2, 3}
    check_books(world)
    rounds, _ = world.controller.rounds.list_rounds("", 0, "")
    assert [r.state for r in rounds] == [RoundState.AGGREGATED] * 3
    assert [r.control_images for r in rounds] == [0, 0, 0]
    assert sum(r.cost for r in rounds) == campaign.money.spent
    assert world.meter.value("gandt_jobs", state="settled") == 3
    assert world.meter.value("gandt_budget_spent") == pytest.approx(campaign.money.spent / 1e6)


@pytest.mark.parametrize(
    ("stop", "rounds", "words"),
    [
        (StopRule(max_rounds=1), 1, "all 1 rounds are done"),
        (StopRule(max_labels=15), 2, "15 labels are bought"),
        (StopRule(max_answers=45), 2, "45 answers are bought"),
        (StopRule(min_yield=0.9, poor_rounds=2), 2, "rounds in a row found too few targets"),
    ],
)
def test_stop_rules(world: World, stop: StopRule, rounds: int, words: str) -> None:
    world.add_images(60)
    world.controller.campaigns.create(spec(stop=stop), "", manual=False)
    world.run()
    campaign = world.controller.campaigns.get("")
    assert campaign.state is CampaignState.COMPLETED
    assert campaign.rounds == rounds
    assert words in campaign.message


def test_the_budget_is_used_and_never_exceeded(world: World) -> None:
    world.add_images(200)
    page = 80_000 + 3 * 36_000
    world.controller.campaigns.create(spec(budget_usd_micros=7 * page + 1), "", manual=False)
    world.run()
    campaign = world.controller.campaigns.get("")
    assert (campaign.state, campaign.message) == (
        CampaignState.COMPLETED,
        "the budget does not reach for another page",
    )
    assert campaign.money.spent == 7 * page
    check_books(world)


def test_without_a_budget_own_staff_works_for_nothing(world: World) -> None:
    world.add_images(10)
    free = spec(budget_usd_micros=0, price_per_page_usd_micros=0, fee_per_page_usd_micros=0)
    world.controller.campaigns.create(free, "", manual=False)
    world.run()
    assert world.controller.campaigns.get("").labeled == 10


def test_uncertain_images_get_more_answers_on_fresh_pages(world: World) -> None:
    world.add_images(10)
    doubtful = set(world.image_ids[:3])

    def say(worker: str, image_id: str) -> list[str]:
        if image_id in doubtful and worker == "w2":
            return ["dog" if world.truth[image_id] == "cat" else "cat"]
        if image_id in doubtful and worker == "w3":
            return []
        return [world.truth[image_id]]

    world.controller.campaigns.create(spec(max_workers_per_image=5), "", manual=False)
    world.run(say=say)
    campaign = world.controller.campaigns.get("")
    jobs = world.store.list_jobs(campaign.campaign_id)
    assert [(job.images, job.pages, job.workers_per_page) for job in jobs] == [(10, 3, 3), (3, 1, 1)]
    assert campaign.rounds == 1
    labels, _, _ = world.controller.catalog.list_labels("", "", False, 0, "")
    assert {label.image_id: label.labels[0] for label in labels} == world.truth
    assert jobs[0].reserved == 3 * (80_000 + 3 * 36_000) + 2 * 3 * (80_000 + 36_000)
    check_books(world)


def test_failed_pages_are_offered_once_more_and_then_given_up(world: World) -> None:
    world.add_images(8)
    unloved = set(world.image_ids[:4])
    world.controller.campaigns.create(spec(round_size=8), "", manual=False)
    world.run(say=lambda worker, image_id: None if image_id in unloved else [world.truth[image_id]])
    campaign = world.controller.campaigns.get("")
    assert campaign.state is CampaignState.COMPLETED
    _, _, unlabeled = world.controller.catalog.list_labels("", "unlabeled", False, 0, "")
    assert unlabeled > 0
    rounds, _ = world.controller.rounds.list_rounds("", 0, "")
    assert any("given up" in text for text in rounds[0].warnings)
    _, _, total = world.controller.catalog.list_labels("", "", False, 0, "")
    assert total == 8


def _points() -> list[tuple[str, int]]:
    names = ("selected", "uploaded", "intent-written", "created", "output-read", "answers-stored", "settled")
    first = [(name, 1) for name in (*names, "aggregated", "labels-written")]
    return [*first, ("intent-written", 2), ("answers-stored", 2)]


@pytest.mark.parametrize("kill_at", _points(), ids=lambda point: f"{point[0]}-{point[1]}")
def test_killed_anywhere_it_goes_on_without_loss_or_doubling(tmp_path: Path, kill_at: tuple[str, int]) -> None:
    world = World(tmp_path, kill_at=kill_at)
    world.add_images(24)
    world.controller.campaigns.create(spec(max_workers_per_image=4), "q", manual=False)
    with pytest.raises(Killed):
        world.run()
    world.restart()
    world.run()
    campaign = world.controller.campaigns.get("")
    assert (campaign.state, campaign.rounds, campaign.labeled) == (CampaignState.COMPLETED, 3, 24)
    check_books(world)
    world.store.close()


def test_a_lost_answer_to_create_is_found_again(world: World) -> None:
    world.add_images(10)
    world.backend.faults_after = [BackendUnavailable("the connection was reset")]
    world.controller.campaigns.create(spec(), "", manual=False)
    world.run()
    assert len(world.backend.jobs) == 1
    assert len(world.backend.creates) == 1
    check_books(world)


def test_throttling_and_quotas_are_waited_for(world: World) -> None:
    world.add_images(10)
    world.backend.faults = [
        Overloaded("slow down", reason="THROTTLED"),
        Overloaded("too many jobs", reason="QUOTA_EXCEEDED", retry_after_seconds=600),
    ]
    world.controller.campaigns.create(spec(), "", manual=False)
    messages = set()
    for _ in range(6):
        world.controller.loop.run_once()
        messages.add(world.controller.campaigns.get("").message)
        world.clock.advance(20)
    assert messages == {"", "waiting: slow down", "waiting: too many jobs"}
    world.run()
    assert len(set(world.backend.creates)) == 1
    assert len(world.backend.jobs) == 1
    check_books(world)


def test_a_name_that_others_took_is_replaced(world: World) -> None:
    world.add_images(10)
    world.controller.campaigns.create(spec(), "", manual=False)
    world.kill_at = ("intent-written", 1)
    with pytest.raises(Killed):
        world.run()
    taken = world.store.list_jobs(world.controller.campaigns.get("").campaign_id)[0]
    world.backend.create(taken.request)
    strange = world.backend.jobs[taken.job_name]
    object.__setattr__(strange, "status", strange.status)
    strange.status.tags["gandt:spec-sha256"] = "somebody else's"
    world.backend.end(taken.job_name)
    world.restart()
    world.run()
    job = world.store.list_jobs(world.controller.campaigns.get("").campaign_id)[0]
    assert job.attempt == 1
    assert job.job_name != taken.job_name
    assert job.state is JobState.SETTLED


def test_a_refused_job_fails_the_campaign_and_frees_the_money(world: World) -> None:
    world.add_images(10)
    world.backend.faults = [InvalidInput("the role is wrong", reason="JOB_REFUSED")]
    world.controller.campaigns.create(spec(), "", manual=False)
    world.run()
    campaign = world.controller.campaigns.get("")
    assert (campaign.state, campaign.message) == (CampaignState.FAILED, "the role is wrong")
    assert (campaign.money.reserved, campaign.money.spent) == (0, 0)
    world.controller.campaigns.update(campaign.campaign_id, paused=False, budget=None)
    world.run()
    assert world.controller.campaigns.get("").labeled == 10


def test_a_torn_output_manifest_is_waited_for(world: World) -> None:
    world.add_images(10)
    world.controller.campaigns.create(spec(), "", manual=False)
    while not world.backend.jobs:
        world.controller.loop.run_once()
    (name,) = world.backend.jobs
    world.backend.label(name, ["w1", "w2", "w3"], world.say)
    world.backend.end(name, torn_lines=1)
    for _ in range(4):
        world.clock.advance(10)
        world.controller.loop.run_once()
    job = world.store.get_job(name)
    assert job.state is JobState.COLLECTING
    assert "2 of 3 lines" in job.message
    world.backend.end(name)
    world.run()
    assert world.controller.campaigns.get("").answers == 30
    check_books(world)


def test_pause_resume_and_stop(world: World) -> None:
    world.add_images(40)
    made = world.controller.campaigns.create(spec(), "", manual=False)
    while not world.backend.jobs:
        world.controller.loop.run_once()
    world.controller.campaigns.update(made.campaign_id, paused=True, budget=None)
    for _ in range(5):
        world.work()
        world.clock.advance(61)
        world.controller.loop.run_once()
    paused = world.controller.campaigns.get("")
    assert (paused.state, paused.answers, paused.money.reserved) == (CampaignState.PAUSED, 30, 0)
    assert len(world.backend.jobs) == 1
    world.controller.campaigns.update(made.campaign_id, paused=False, budget=None)
    while len(world.backend.jobs) < 2:
        world.controller.loop.run_once()
    name = list(world.backend.jobs)[1]
    world.backend.label(name, ["w1"], world.say)
    world.controller.campaigns.stop(made.campaign_id)
    world.run()
    stopped = world.controller.campaigns.get("")
    assert (stopped.state, stopped.answers, stopped.labeled) == (CampaignState.STOPPED, 40, 20)
    assert world.backend.jobs[name].status.state is BackendState.STOPPED
    assert stopped.money.reserved == 0


def test_only_one_controller_leads(world: World, tmp_path: Path) -> None:
    world.add_images(10)
    world.controller.campaigns.create(spec(), "", manual=False)
    assert world.controller.loop.run_once() > 0
    other = World(tmp_path)
    assert other.controller.loop.run_once() == 0
    other.store.close()


def write_under(store: SqlJobs, pragma: str) -> None:
    """Write with SQLite set up so that it cannot."""
    with store.write() as connection:
        connection.exec_driver_sql(f"PRAGMA {pragma}")
        try:
            connection.exec_driver_sql("CREATE TABLE more AS SELECT randomblob(100000)")
        finally:
            connection.exec_driver_sql("PRAGMA query_only=OFF")


def test_a_disk_that_cannot_be_written_is_waited_for(tmp_path: Path) -> None:
    with pytest.raises(WrongState, match=r"folder is read-only or gone; make the file") as caught:
        SqlJobs(f"sqlite:///{tmp_path}")  # a folder is no file
    assert caught.value.reason == "DISK_READ_ONLY"
    path = tmp_path / "controller.db"
    store = SqlJobs(f"sqlite:///{path}")
    for pragma, reason in (("query_only=ON", "DISK_READ_ONLY"), ("max_page_count=1", "DISK_FULL")):
        with pytest.raises(WrongState, match=f"job store {path} cannot be written") as caught:
            write_under(store, pragma)
        assert caught.value.reason == reason
        assert is_passing(caught.value)
    with pytest.raises(WrongState, match="full or failing") as caught, store.write():
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("disk I/O error"))
    assert caught.value.reason == "DISK_FULL"
    store.close()


def test_a_raised_limit_goes_on_with_the_labels_that_are_there(world: World) -> None:
    world.add_images(60)
    update = world.controller.campaigns.update
    made = world.controller.campaigns.create(spec(stop=StopRule(max_rounds=1)), "", manual=False)
    world.run()
    first = world.controller.campaigns.get("")
    lowered = update(made.campaign_id, None, None, stop=StopRule(max_rounds=1, max_answers=9))
    assert lowered.state is CampaignState.COMPLETED
    for _ in range(2):  # the same again changes nothing
        again = update(made.campaign_id, None, None, stop=StopRule(max_rounds=2))
        assert (again.state, again.labeled, again.money) == (CampaignState.RUNNING, first.labeled, first.money)
    assert again.version == lowered.version + 1
    world.run()
    second = world.controller.campaigns.get("")
    assert (second.state, second.rounds, second.labeled) == (CampaignState.COMPLETED, 2, 2 * first.labeled)
    assert second.money.spent == 2 * first.money.spent
    check_books(world)
    with pytest.raises(InvalidInput, match="at most 1 answers"):
        update(made.campaign_id, None, None, stop=StopRule(max_answers=1))


def test_a_larger_budget_goes_on_and_a_manual_campaign_never_by_itself(world: World) -> None:
    world.add_images(60)
    page = 80_000 + 3 * 36_000
    made = world.controller.campaigns.create(spec(budget_usd_micros=3 * page), "", manual=False)
    world.run()
    assert world.controller.campaigns.get("").labeled == 10
    world.controller.campaigns.update(made.campaign_id, None, 6 * page)
    world.run()
    assert world.controller.campaigns.get("").money.spent == 6 * page
    check_books(world)
    manual = world.controller.campaigns.create(spec(name="steps"), "", manual=True)
    world.controller.campaigns.stop(manual.campaign_id)
    world.run()
    raised = world.controller.campaigns.update(manual.campaign_id, None, 200_000_000)
    assert raised.state is CampaignState.MANUAL
