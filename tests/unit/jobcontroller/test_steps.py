# SPDX-License-Identifier: GPL-3.0-or-later
"""Manual campaigns: each call performs its step fully, twice is once, and what cannot be done says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gandt.domain.catalog import LabelKind
from gandt.domain.errors import (
    AlreadyExists,
    BackendUnavailable,
    Conflict,
    GandtError,
    InvalidInput,
    NotFound,
    OverBudget,
    WrongState,
)
from gandt.domain.labeling.campaigns import CampaignState, StopRule
from gandt.domain.labeling.jobs import JobState, job_name
from gandt.domain.labeling.outcomes import GivenLabel
from gandt.domain.labeling.rounds import RoundState
from tests.unit.jobcontroller.world import World, spec

PAGE = 80_000 + 3 * 36_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.add_images(30)
    yield made
    made.store.close()


def test_one_round_step_by_step(world: World) -> None:
    campaign = world.controller.campaigns.create(spec(), "c", manual=True)
    assert campaign.state is CampaignState.MANUAL
    made = world.controller.rounds.create("", 0, "", "r1")
    assert world.controller.rounds.create("", 0, "", "r1") == made
    assert (made.state, made.number, len(made.picks), made.picks[0].uris) == (
        RoundState.SELECTED,
        1,
        10,
        ("s3://photos/a/000.jpg",),
    )
    with pytest.raises(WrongState, match="so the next one cannot begin"):
        world.controller.rounds.create("", 0, "", "r2")
    with pytest.raises(WrongState, match="no labeling job yet"):
        world.controller.rounds.collect("")
    quote, money, _ = world.controller.rounds.quote("")
    assert (quote.images, quote.pages, quote.min_cost, quote.max_cost) == (10, 3, 3 * PAGE, 3 * PAGE)
    assert money.available == 100_000_000
    job = world.controller.rounds.create_job("", "j1")
    assert world.controller.rounds.create_job("", "j1") == job
    assert (job.state, job.reserved, job.pages) == (JobState.CREATED, 3 * PAGE, 3)
    assert len(world.backend.jobs) == 1
    with pytest.raises(WrongState, match="no images that wait"):
        world.controller.rounds.create_job("", "j2")
    nothing = world.controller.rounds.collect("")
    assert (nothing.new_answers, nothing.round.state) == (0, RoundState.LABELING)
    with pytest.raises(WrongState, match="answers still to come"):
        world.controller.rounds.aggregate("")
    world.work()
    for _ in range(3):
        world.controller.loop.run_once()
        world.clock.advance(5)
    assert world.controller.rounds.get_job(job.job_name).state is JobState.COLLECTING
    done = world.controller.rounds.collect("")
    assert (done.new_answers, done.failed_images, done.round.state) == (30, 0, RoundState.COLLECTED)
    assert world.controller.rounds.collect("").new_answers == 0
    labels = world.controller.rounds.aggregate("")
    assert (labels.round.state, labels.certain, labels.need_answers) == (RoundState.AGGREGATED, 10, 0)
    assert world.controller.campaigns.get("").money.spent == 3 * PAGE
    assert world.controller.rounds.create("", 5, "random", "").number == 2


def test_repeats_wait_for_another_launch(world: World) -> None:
    world.controller.campaigns.create(spec(max_workers_per_image=4), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    world.controller.rounds.create_job("", "")
    doubtful = set(world.image_ids[:2])
    answers = {"w1": ["cat"], "w4": ["cat"], "w2": ["dog"], "w3": []}
    world.work(lambda w, i: answers.get(w, [world.truth[i]]) if i in doubtful else [world.truth[i]])
    world.controller.rounds.collect("")
    done = world.controller.rounds.aggregate("")
    assert (done.need_answers, done.round.state) == (2, RoundState.AGGREGATED)
    quote, _, _ = world.controller.rounds.quote("")
    assert (quote.images, quote.min_answers) == (2, 2)
    job = world.controller.rounds.create_job("", "")
    assert (job.images, job.workers_per_page, job.reserved) == (2, 1, 80_000 + 36_000)
    world.work()
    assert world.controller.rounds.collect("").new_answers == 2
    assert world.controller.rounds.aggregate("").need_answers == 0


def test_too_small_a_budget_refuses_the_launch(world: World) -> None:
    made = world.controller.campaigns.create(spec(budget_usd_micros=2 * PAGE), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    with pytest.raises(OverBudget, match=r"may cost \$0.56 and only \$0.38 of the budget of \$0.38 are left"):
        world.controller.rounds.create_job("", "j")
    assert world.backend.creates == []
    world.controller.campaigns.update(made.campaign_id, paused=None, budget=3 * PAGE)
    assert world.controller.rounds.create_job("", "j").state is JobState.CREATED
    with pytest.raises(InvalidInput, match="are spent or held"):
        world.controller.campaigns.update(made.campaign_id, paused=None, budget=PAGE)


def test_a_backend_that_does_not_answer_leaves_the_intent(world: World) -> None:
    world.controller.campaigns.create(spec(), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    world.backend.faults = [BackendUnavailable("nobody is there")]
    with pytest.raises(BackendUnavailable):
        world.controller.rounds.create_job("", "j")
    (job,), _ = world.controller.rounds.list_jobs("", "", 0, "")
    assert (job.state, job.message) == (JobState.INTENT, "nobody is there")
    world.clock.advance(5)
    assert world.controller.rounds.create_job("", "j").state is JobState.CREATED
    assert len(world.backend.jobs) == 1


def test_a_refused_job_may_be_launched_again(world: World) -> None:
    world.controller.campaigns.create(spec(), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    world.backend.faults = [InvalidInput("the role is wrong")]
    with pytest.raises(InvalidInput):
        world.controller.rounds.create_job("", "j")
    assert world.controller.rounds.get("").state is RoundState.SELECTED
    assert world.controller.campaigns.get("").money.reserved == 0
    again = world.controller.rounds.create_job("", "j")
    assert again.state is JobState.CREATED
    assert [job.state for job in world.controller.rounds.list_jobs("", "", 0, "")[0]] == [
        JobState.REFUSED,
        JobState.CREATED,
    ]


def test_stopping_one_job_keeps_what_was_answered(world: World) -> None:
    world.controller.campaigns.create(spec(), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    job = world.controller.rounds.create_job("", "")
    world.backend.label(job.job_name, ["w1"], world.say)
    world.controller.rounds.stop_job(job.job_name)
    done = world.controller.rounds.collect("")
    assert done.new_answers == 10
    watched = list(world.controller.rounds.watch_job(job.job_name))
    assert [j.state for j in watched] == [JobState.SETTLED]
    assert watched[0].cost == 3 * (80_000 + 36_000)


def test_a_campaign_that_runs_by_itself_takes_no_single_steps(world: World) -> None:
    world.controller.campaigns.create(spec(), "", manual=False)
    with pytest.raises(WrongState) as caught:
        world.controller.rounds.create("", 0, "", "")
    assert caught.value.reason == "CAMPAIGN_RUNS"


def test_gold_is_mixed_in_once_and_measures_workers(world: World) -> None:
    gold = [GivenLabel(f"{n:03d}.jpg", (world.truth[world.image_ids[n]],)) for n in range(20, 26)]
    world.controller.catalog.import_labels(gold, LabelKind.GOLD, False)
    world.controller.campaigns.create(spec(gold_fraction=0.25, round_size=6), "", manual=True)
    gold_ids = set(world.image_ids[20:26])
    shown: list[str] = []
    for number in (1, 2, 3):
        made = world.controller.rounds.create("", 0, "", "")
        assert not gold_ids & {pick.image_id for pick in made.picks}
        job = world.controller.rounds.create_job("", "")
        assert job.images == 6
        pages = world.store.job_pages(job.job_name)
        shown += sorted(set(pages) & gold_ids)
        assert job.pages == 2
        world.work(lambda w, i: world.say("w1", i))
        world.controller.rounds.collect("")
        assert world.controller.rounds.aggregate("").certain == 6, number
    assert sorted(shown) == sorted(gold_ids)
    labels, _, _ = world.controller.catalog.list_labels("", "", False, 0, "")
    assert not gold_ids & {label.image_id for label in labels}


def test_quarantined_answers_are_kept_apart_and_listed(world: World) -> None:
    world.controller.campaigns.create(spec(), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    world.controller.rounds.create_job("", "")
    world.work(lambda w, i: ["unheard of"] if w == "w3" else [world.truth[i]])
    done = world.controller.rounds.collect("")
    assert done.new_answers == 20
    assert len(done.quarantined) == 10
    assert all(len(entry.excerpt) <= 500 for entry in done.quarantined)
    assert world.controller.rounds.collect("").quarantined == done.quarantined
    assert world.controller.campaigns.get("").money.spent == 3 * PAGE


def test_request_ids_and_versions(world: World) -> None:
    first = world.controller.campaigns.create(spec(), "c", manual=True)
    assert world.controller.campaigns.create(spec(), "c", manual=True) == first
    with pytest.raises(AlreadyExists):
        world.controller.campaigns.create(spec(name="others"), "c", manual=True)
    paused = world.controller.campaigns.update(first.campaign_id, True, None, expected_version=first.version)
    assert (paused.state, paused.version) == (CampaignState.PAUSED, first.version + 1)
    with pytest.raises(Conflict):
        world.controller.campaigns.update(first.campaign_id, False, None, expected_version=first.version)
    assert world.controller.campaigns.update(first.campaign_id, False, None).state is CampaignState.MANUAL
    world.controller.campaigns.stop(first.campaign_id)
    world.controller.loop.run_once()
    with pytest.raises(WrongState, match="cannot be paused"):
        world.controller.campaigns.update(first.campaign_id, True, None)
    watched = list(world.controller.campaigns.watch(""))
    assert [c.state for c, _ in watched] == [CampaignState.STOPPED]
    second = world.controller.campaigns.create(spec(), "", manual=True)
    newest, token = world.controller.campaigns.list_campaigns(1, "")
    older, _ = world.controller.campaigns.list_campaigns(1, token)
    assert [c.campaign_id for c in (*newest, *older)] == [second.campaign_id, first.campaign_id]


def test_missing_things_are_named(world: World) -> None:
    with pytest.raises(NotFound, match="there is no campaign yet"):
        world.controller.campaigns.get("")
    world.controller.campaigns.create(spec(), "", manual=True)
    for call in (
        lambda: world.controller.rounds.get(""),
        lambda: world.controller.rounds.get("r-9"),
        lambda: world.controller.rounds.get_job("j-9"),
        lambda: world.controller.embedding.get("e-9"),
    ):
        with pytest.raises(NotFound):
            call()


def test_nothing_embedded_or_nothing_left(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add_images(2, embedded=False)
    world.controller.campaigns.create(spec(), "", manual=True)
    with pytest.raises(WrongState, match="no image is embedded"):
        world.controller.rounds.create("", 0, "", "")
    world.store.set_fact("collection", "images_1")
    world.image_ids.clear()
    with pytest.raises(WrongState, match="no image left"):
        world.controller.rounds.create("", 0, "", "")
    world.store.close()


def test_selection_is_asked_with_what_is_known(world: World) -> None:
    seeds = [GivenLabel("000.jpg", ("cat",)), GivenLabel("001.jpg", ("dog",))]
    world.controller.catalog.import_labels(seeds, LabelKind.SEED, False)
    world.controller.catalog.import_labels([GivenLabel("002.jpg", ("dog",))], LabelKind.GOLD, False)
    world.controller.campaigns.create(
        spec(seed=7, control_fraction=0.1, stop=replace(spec().stop, max_rounds=2)), "", manual=False
    )
    world.run()
    first, second = world.selector.questions
    assert {image.image_id for image in first.labeled} == set(world.image_ids[:2])
    assert (set(first.excluded), first.round, first.seed, first.found_before) == ({world.image_ids[2]}, 1, 7, 1)
    assert (first.collection, first.model_id, first.control_fraction) == ("images_1", "hog-1", 0.1)
    assert len(second.labeled) == 12
    assert {image.round for image in second.labeled} == {0, 1}
    assert {image.arm for image in second.labeled} == {"", "main", "control"}


def test_seeds_outside_the_classes_are_not_used(world: World) -> None:
    seeds = [GivenLabel("000.jpg", ("bird",)), GivenLabel("001.jpg", ("dog",))]
    world.controller.catalog.import_labels(seeds, LabelKind.SEED, False)
    words = (
        "1 seed labels are not used, for 'bird' is not among the classes cat, dog "
        f"(the first is of image {world.image_ids[0][:12]})"
    )
    assert world.controller.campaigns.create(spec(), "", manual=True).message == words
    made = world.controller.rounds.create("", 0, "", "")
    assert made.warnings == (words,)
    assert [image.image_id for image in world.selector.questions[0].labeled] == [world.image_ids[1]]
    assert world.image_ids[0] in {pick.image_id for pick in made.picks}
    assert world.controller.export_labels("", "jsonl", "s3://gandt/out/labels.jsonl", True).rows == 1


def test_unknown_names_are_refused_before_anything_is_paid(world: World) -> None:
    create = world.controller.campaigns.create
    with pytest.raises(InvalidInput, match="no aggregation method 'majorty'; did you mean majority") as caught:
        create(spec(method="majorty"), "", manual=False)
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_METHOD", "method")
    with pytest.raises(InvalidInput, match="no selection strategy 'findmore'; did you mean find-more") as caught:
        create(spec(strategy="findmore"), "", manual=False)
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_STRATEGY", "strategy")
    assert not world.store.open_campaigns()
    create(spec(method="majority", strategy="find-more"), "", manual=True)
    with pytest.raises(InvalidInput, match="no selection strategy 'zzz'; use one of auto, find-more, first, random"):
        world.controller.rounds.create("", 0, "zzz", "")
    assert not world.selector.questions


def test_what_can_only_fail_later_is_refused_before_anything_is_paid(world: World) -> None:
    create = world.controller.campaigns.create
    cases: list[tuple[dict[str, object], str, str]] = [
        ({"method": "two-coin"}, "METHOD_NEEDS_MULTI_LABEL", "--multilabel"),
        ({"method": "one-only", "multi_label": True}, "METHOD_NEEDS_SINGLE_LABEL", "two-coin"),
        ({"stop": StopRule(max_rounds=-1)}, "OUT_OF_RANGE", "stop.max_rounds"),
        ({"strategy": "find-more", "target_labels": ()}, "STRATEGY_NEEDS_TARGET", "--target"),
        ({"budget_usd_micros": 80_000 + 3 * 36_000 - 1}, "BUDGET_BELOW_ONE_PAGE", "0.19"),
        ({"stop": StopRule(max_answers=2)}, "OUT_OF_RANGE", "takes 3"),
        ({"workers_per_image": 10}, "OUT_OF_RANGE", "workers_per_image"),
        ({"workers_per_image": 3, "max_workers_per_image": 2}, "OUT_OF_RANGE", "max_workers_per_image"),
        ({"group_size": 100}, "MANIFEST_LINE_TOO_LONG", "group size of at most"),
        ({"target_labels": ("bird",)}, "UNKNOWN_LABEL", "bird"),
    ]
    for changes, reason, words in cases:
        with pytest.raises(GandtError) as caught:
            create(spec(**changes), "", manual=False)
        assert (caught.value.reason, words in str(caught.value)) == (reason, True), str(caught.value)
    assert not world.store.open_campaigns()
    create(spec(budget_usd_micros=80_000 + 3 * 36_000), "", manual=True)
    with pytest.raises(InvalidInput) as refused:
        world.controller.rounds.create(create(spec(target_labels=()), "", manual=True).campaign_id, 0, "find-more", "")
    assert refused.value.reason == "STRATEGY_NEEDS_TARGET"
    assert create(spec(method="two-coin", multi_label=True), "", manual=True).spec.method == "two-coin"


def test_gold_outside_the_classes_is_told_and_left_aside(world: World) -> None:
    gold = [GivenLabel("000.jpg", ("bird",)), GivenLabel("001.jpg", ("dog",))]
    assert world.controller.catalog.import_labels(gold, LabelKind.GOLD, False).imported == 2
    made = world.controller.campaigns.create(spec(gold_fraction=0.25, control_fraction=0.0), "", manual=False)
    assert "1 gold labels are not used, for 'bird'" in made.message
    assert world.image_ids[0][:12] in made.message
    world.run()
    assert world.controller.campaigns.get("").state is CampaignState.COMPLETED
    shown = {answer.image_id for answer in world.store.all_answers(made.campaign_id)}
    assert shown == set(world.image_ids) - {world.image_ids[1]}  # the foreign one was labeled like any other


@pytest.mark.parametrize("kind", list(LabelKind))
def test_known_labels_outside_the_classes_of_a_campaign_under_way_are_refused(world: World, kind: LabelKind) -> None:
    made = world.controller.campaigns.create(spec(other_label="Other"), "", manual=True)
    given = [GivenLabel("000.jpg", ("brid",)), GivenLabel("001.jpg", ("dog",)), GivenLabel("002.jpg", ("Other",))]
    done = world.controller.catalog.import_labels(given, kind, False)
    assert (done.imported, [refused.index for refused in done.rejected]) == (2, [0])
    error = done.rejected[0].error
    assert error.reason == "UNKNOWN_LABEL"
    assert error.message == "label 'brid' of image 000.jpg is not among the classes cat, dog, Other"
    world.controller.campaigns.stop(made.campaign_id)
    world.run()
    assert world.controller.catalog.import_labels(given, kind, False).imported == 1  # nobody's classes any more


def test_all_of_the_instructions_travel_with_each_page(world: World) -> None:
    told = "First look.\n\n" + "Then look again. " * 40
    world.controller.campaigns.create(spec(instructions=told), "", manual=True)
    made = world.controller.rounds.create("", 0, "", "")
    request = world.controller.rounds.create_job(made.round_id, "").request
    assert len(request.description) == 255  # Ground Truth's limit for the list of jobs
    for line in world.objects.get(request.manifest_uri).decode().splitlines():
        tiles = json.loads(json.loads(line)["source"])
        assert tiles[0]["instructions"] == told.strip()
        assert not any("instructions" in tile for tile in tiles[1:])
    with pytest.raises(InvalidInput) as caught:
        world.controller.campaigns.create(spec(instructions="x" * 30_000), "", manual=True)
    assert caught.value.reason == "MANIFEST_LINE_TOO_LONG"


def test_automatic_names_need_no_service(world: World) -> None:
    world.controller.campaigns.create(spec(method="", strategy="auto"), "", manual=True)
    world.controller.rounds.create("", 0, "", "")
    assert (world.selector.listed, world.aggregator.listed) == (0, 0)


def test_job_names_fit_the_service() -> None:
    name = job_name("gt-", "x" * 40 + "-", 9999, "f" * 64)
    assert len(name) <= 63
    assert name == job_name("GT-", "x" * 40 + "--", 9999, "f" * 64)
