# SPDX-License-Identifier: GPL-3.0-or-later
"""Control draws, arrivals, parts of rounds and the proof, as the controller keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gandt_jobcontroller.service.peers import SelectionAnswer, SelectionQuestion

from gandt.domain.catalog import CatalogFile, CatalogImage, LabelKind
from gandt.domain.labeling.campaigns import CampaignState, StopRule
from gandt.domain.labeling.outcomes import GivenLabel
from gandt.domain.labeling.rounds import Draw, RoundState
from tests.unit.jobcontroller.world import Killed, World, spec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Thirty images, every third a cat."""
    made = World(tmp_path)
    made.add_images(30)
    yield made
    made.store.close()


def test_each_draw_is_recorded_with_what_it_was_made_from(world: World) -> None:
    seeds = [GivenLabel("000.jpg", ("cat",))]
    world.controller.catalog.import_labels(seeds, LabelKind.SEED, False)
    stop = StopRule(max_rounds=2)
    world.controller.campaigns.create(spec(control_fraction=0.2, stop=stop), "", manual=False)
    world.run()
    rounds, _ = world.controller.rounds.list_rounds("", 0, "")
    first = world.store.get_round(rounds[0].round_id, with_picks=True)
    pool = len(world.image_ids) - 1
    assert first.draws == (Draw(1, 1, ((1, pool),)),)
    assert {(pick.part, pick.stratum, pick.pool_size) for pick in first.picks} == {(1, 1, pool)}
    (one, two) = world.store.samples(rounds[0].campaign_id)
    assert (one.pool, one.control, one.main) == (pool, 2, 8)
    assert (two.pool, two.control, two.main) == (pool - 10, 2, 8)
    campaign, proof = world.controller.campaigns.get_with_proof("")
    assert proof is not None
    assert proof.found == campaign.targets_found + 1
    assert campaign.message == f"all 2 rounds are done; {proof.sentence}"


def test_wanted_control_images_get_one_more_answer(world: World) -> None:
    world.controller.campaigns.create(spec(control_fraction=0.3, stop=StopRule(max_rounds=1)), "", manual=False)
    world.run()
    (only,), _ = world.controller.rounds.list_rounds("", 0, "")
    picks = world.store.get_round(only.round_id, with_picks=True).picks
    answers = {tally.image_id: tally.answers for tally in world.store.tallies(only.round_id)}
    wanted = {pick.image_id for pick in picks if world.truth[pick.image_id] == "cat" and pick.arm == "control"}
    assert wanted
    assert {image: count for image, count in answers.items() if count != 3} == dict.fromkeys(wanted, 4)


def test_a_proof_goes_over_to_uniform_draws_and_ends_the_campaign(world: World) -> None:
    stop = StopRule(prove_recall=0.5, min_yield=0.9)
    made = world.controller.campaigns.create(spec(control_fraction=0.4, stop=stop), "", manual=False)
    world.run()
    done = world.controller.campaigns.get(made.campaign_id)
    assert done.state is CampaignState.COMPLETED
    _, proof = world.controller.campaigns.get_with_proof("")
    assert proof is not None
    assert proof.recall >= 0.5  # a poor yield does not end a campaign that is to prove something
    assert "a recall of 50% is proven; with 90% confidence" in done.message or "no image is left" in done.message


def test_proving_rounds_are_all_control(world: World) -> None:
    from gandt_jobcontroller.service.selecting import PROVING, select_round

    from gandt.domain.selection.phases import Phase

    made = world.controller.campaigns.create(spec(), "", manual=True)
    new = select_round(world.parts, made, 6, phase=Phase.PROVE)
    assert new is not None
    assert (new.explanation, {pick.arm for pick in new.picks}) == (PROVING, {"control"})
    question = world.selector.questions[-1]
    assert (question.strategy, question.control_fraction) == ("random", 1.0)


def test_images_that_come_later_are_a_stratum_of_their_own(world: World) -> None:
    made = world.controller.campaigns.create(spec(control_fraction=0.2, stop=StopRule(max_rounds=1)), "", manual=False)
    world.run()
    before = len(world.image_ids)
    new = [f"{number:064x}" for number in range(5)]
    images = [CatalogImage(image, 4, 3, "JPEG", 9, "s3://g/t") for image in new]
    files = [CatalogFile(f"s3://photos/late/{image}.jpg", 9, "e", image) for image in new]
    world.store.record_files(images, files)
    world.store.mark_embedded("images_1", new)
    world.image_ids.extend(new)
    world.truth.update(dict.fromkeys(new, "cat"))
    assert world.store.arrivals(made.campaign_id, "images_1", ()) == {2: 5}
    assert world.store.arrivals(made.campaign_id, "images_1", new[:2]) == {2: 3}
    world.controller.campaigns.update(made.campaign_id, None, None, stop=StopRule(max_rounds=2))
    world.run()
    rounds, _ = world.controller.rounds.list_rounds("", 0, "")
    assert dict(rounds[1].draws[0].pools) == {1: before - 10, 2: 5}
    _, proof = world.controller.campaigns.get_with_proof("")
    assert proof is not None
    assert proof.strata == 2
    # The same images in another collection are no new arrivals.
    world.store.mark_embedded("images_2", world.image_ids)
    assert world.store.strata(made.campaign_id, new) == dict.fromkeys(new, 2)


@pytest.mark.parametrize("part_size", [4, 10])
def test_a_round_in_parts_is_topped_up_from_the_answers_so_far(world: World, part_size: int) -> None:
    stop = StopRule(max_rounds=1)
    world.controller.campaigns.create(spec(control_fraction=0.2, part_size=part_size, stop=stop), "", manual=False)
    world.run()
    (only,), _ = world.controller.rounds.list_rounds("", 0, "")
    parts = -(-10 // part_size)
    assert (only.state, only.images, len(only.draws)) == (RoundState.AGGREGATED, 10, parts)
    assert [len(question.labeled) for question in world.selector.questions] == [part_size * n for n in range(parts)]
    assert len({question.seed for question in world.selector.questions}) == parts
    picks = world.store.get_round(only.round_id, with_picks=True).picks
    assert [pick.rank for pick in picks] == list(range(1, 11))
    assert {pick.part for pick in picks} == set(range(1, parts + 1))


def test_a_manual_round_in_parts_is_topped_up_by_another_select(world: World) -> None:
    world.controller.campaigns.create(spec(part_size=6), "", manual=True)
    steps = world.controller.rounds
    first = steps.create("", 0, "", "")
    assert (first.images, first.planned, first.left) == (6, 10, 4)
    steps.create_job("", "")
    world.work()
    steps.collect("")
    topped_up = steps.create("", 0, "", "")
    assert (topped_up.round_id, topped_up.images, topped_up.left) == (first.round_id, 10, 0)
    steps.create_job("", "")
    world.work()
    steps.collect("")
    assert steps.aggregate("").round.images == 10


def test_before_the_first_round_the_campaign_itself_is_quoted(world: World) -> None:
    world.controller.campaigns.create(spec(stop=StopRule(prove_recall=0.8)), "", manual=True)
    quote, _, coming = world.controller.rounds.quote("")
    assert quote.images == 0
    assert coming is not None
    assert (coming.pool, coming.assumed, coming.recall) == (len(world.image_ids), True, 0.8)
    assert "finding takes about" in coming.sentence


def test_a_higher_proof_reopens_a_campaign_that_has_ended() -> None:
    rule = StopRule(prove_recall=0.8)
    assert replace(rule, prove_recall=0.9).allows_more_than(rule)
    assert replace(rule, confidence=0.95).allows_more_than(rule)
    assert rule.allows_more_than(StopRule())
    assert not rule.allows_more_than(rule)


def test_replaced_seeds_are_told(world: World) -> None:
    first = world.controller.catalog.import_labels([GivenLabel("000.jpg", ("cat",))], LabelKind.SEED, False)
    assert (first.imported, first.replaced) == (1, 0)
    again = world.controller.catalog.import_labels(
        [GivenLabel("000.jpg", ("dog",)), GivenLabel("001.jpg", ("cat",))], LabelKind.SEED, False
    )
    assert (again.imported, again.replaced) == (2, 1)
    (example,) = again.examples
    assert (example.image, example.old, example.new) == ("000.jpg", ("cat",), ("dog",))


@pytest.mark.parametrize("place", ["selected", "aggregated", "labels-written", "intent-written"])
def test_a_controller_that_is_killed_amid_a_round_in_parts_goes_on(world: World, place: str) -> None:
    stop = StopRule(max_rounds=1)
    world.kill_at = (place, 2)
    world.controller.campaigns.create(spec(control_fraction=0.2, part_size=4, stop=stop), "", manual=False)
    with pytest.raises(Killed):
        world.run()
    world.restart()
    world.run()
    (only,), _ = world.controller.rounds.list_rounds("", 0, "")
    assert (only.state, only.images, len(only.draws)) == (RoundState.AGGREGATED, 10, 3)
    assert world.controller.campaigns.get("").labeled == 10


def test_an_image_that_is_asked_again_counts_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Strategy relabel mixes images with a label among the new ones; counted twice they would inflate the claim."""
    world.controller.catalog.import_labels([GivenLabel("000.jpg", ("cat",))], LabelKind.SEED, False)
    plain = world.selector.select

    def select(question: SelectionQuestion) -> SelectionAnswer:
        answer, old = plain(question), [image.image_id for image in question.labeled][:5]
        picks = [replace(pick, image_id=old[i]) if i < len(old) else pick for i, pick in enumerate(answer.picks)]
        return replace(answer, picks=tuple(picks))

    monkeypatch.setattr(world.selector, "select", select)
    stop = StopRule(max_rounds=3)
    world.controller.campaigns.create(spec(control_fraction=0.2, stop=stop), "", manual=False)
    world.run()
    campaign, proof = world.controller.campaigns.get_with_proof("")
    known = world.store.list_labels(campaign.campaign_id, "", True, "", 1000)
    wanted = {label.image_id for label in known if label.labels == ("cat",)}
    assert proof is not None
    assert len({label.image_id for label in known}) == len(known)
    assert proof.found == len(wanted)


def test_small_selections_add_up_to_the_share_of_control_images(world: World) -> None:
    """A tenth of four images is none: without a debt kept, such a campaign would never draw, nor prove, anything."""
    stop = StopRule(max_rounds=6)
    made = world.controller.campaigns.create(spec(control_fraction=0.1, round_size=4, stop=stop), "", manual=False)
    world.run()
    samples = world.store.samples(made.campaign_id)
    assert (sum(s.control for s in samples), sum(s.control + s.main for s in samples)) == (2, 24)


def test_a_collection_that_lacks_some_labeled_images_takes_nothing_off_the_others(world: World) -> None:
    made = world.controller.campaigns.create(spec(control_fraction=0.2, stop=StopRule(max_rounds=1)), "", manual=False)
    world.run()
    late = world.add_images(5)
    assert world.store.arrivals(made.campaign_id, "images_1", late[:2]) == {2: 3}
    world.store.mark_embedded("images_2", late[2:])  # embedded anew; two that are labeled by now failed
    assert world.store.arrivals(made.campaign_id, "images_2", late[:2]) == {2: 3}
