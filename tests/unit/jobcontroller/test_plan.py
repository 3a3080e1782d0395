# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure decision of the loop: whatever is observed, it keeps its promises, and every campaign ends."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gandt.domain.labeling import rounds as loop
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, CampaignState, StopRule, stop_reason
from gandt.domain.labeling.jobs import JobRequest, JobState, LabelingJob
from gandt.domain.labeling.money import Money, affordable_images, quote
from gandt.domain.labeling.rounds import Observed, PageGroup, Round, RoundState, Tally, plan, repeats

NOW = datetime(2026, 1, 1, tzinfo=UTC)
REQUEST = JobRequest("j", "", "", "", "", "", "", "", "", "", 1, 1, 1, 1, {})
STARTS = (loop.SelectRound, loop.StartJob)


def campaign(state: CampaignState = CampaignState.RUNNING, **changes: object) -> Campaign:
    spec = CampaignSpec(name="pets", classes=("cat", "dog"), fee_per_page_usd_micros=80_000)
    fields: dict[str, object] = {"money": Money(10_000_000), **changes}
    return Campaign("c", spec, state, NOW, NOW, **fields)  # type: ignore[arg-type]


def job(state: JobState, name: str = "j") -> LabelingJob:
    return LabelingJob(name, "r", "c", state, REQUEST, "", 1, 1, 3, NOW)


def a_round(state: RoundState, pending: int = 0, answers: int = 0) -> Round:
    groups = tuple(PageGroup((f"i{n}",), 3) for n in range(pending))
    return Round("r", "c", 1, state, NOW, pending=groups, answers=answers)


observed = st.builds(
    Observed,
    campaign=st.builds(
        campaign,
        state=st.sampled_from(CampaignState),
        rounds=st.integers(0, 3),
        labeled=st.integers(0, 100),
        money=st.builds(Money, st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**6)),
    ),
    round=st.none() | st.builds(a_round, st.sampled_from(RoundState), st.integers(0, 2), st.integers(0, 9)),
    jobs=st.lists(st.sampled_from([s for s in JobState if not s.is_final]), max_size=3).map(
        lambda states: tuple(job(s, f"j{n}") for n, s in enumerate(states))
    ),
)


@given(observed)
def test_nothing_starts_while_a_job_is_open_or_only_a_caller_may_act(seen: Observed) -> None:
    actions = plan(seen)
    starts = [a for a in actions if isinstance(a, STARTS)]
    assert len(starts) <= 1
    if seen.jobs or seen.campaign.state is not CampaignState.RUNNING:
        assert starts == []
    if seen.campaign.state.is_final:
        assert actions == []
    named = [a.job_name for a in actions if hasattr(a, "job_name")]
    assert len(named) == len(set(named))


@given(observed)
def test_money_that_a_new_round_may_take_is_there(seen: Observed) -> None:
    for action in plan(seen):
        if isinstance(action, loop.SelectRound):
            spec = seen.campaign.spec
            worst = quote(
                action.count, spec.workers_per_image, spec.max_workers_per_image, spec.group_size, spec.prices
            )
            assert worst.max_cost <= seen.campaign.money.available
            assert action.number == seen.campaign.rounds + 1


@given(observed)
def test_a_paused_or_manual_campaign_is_only_followed(seen: Observed) -> None:
    if seen.campaign.state in (CampaignState.PAUSED, CampaignState.MANUAL):
        allowed = {
            CampaignState.PAUSED: (loop.PollJob, loop.CollectJob),
            CampaignState.MANUAL: (loop.PollJob, loop.SubmitJob),
        }
        assert all(isinstance(action, allowed[seen.campaign.state]) for action in plan(seen))


class Model:
    """A campaign in a model world: actions succeed, are refused or find nothing, as the random choices say."""

    def __init__(self, spec: CampaignSpec, choices: st.DataObject) -> None:
        self.campaign = Campaign("c", spec, CampaignState.RUNNING, NOW, NOW, money=Money(spec.budget_usd_micros))
        self.round: Round | None = None
        self.jobs: dict[str, LabelingJob] = {}
        self.creates: list[str] = []
        self._choices = choices

    def observe(self) -> Observed:
        return Observed(self.campaign, self.round, tuple(j for j in self.jobs.values() if not j.state.is_final))

    def _choose(self, *options: bool) -> bool:
        return bool(self._choices.draw(st.sampled_from(options)))

    def do(self, action: loop.Action) -> None:
        if isinstance(action, loop.SelectRound):
            if self._choose(*[True] * 5, False):
                ids = tuple(f"{action.number}-{n}" for n in range(action.count))
                group = PageGroup(ids, self.campaign.spec.workers_per_image)
                self.round = Round(f"r{action.number}", "c", action.number, RoundState.SELECTED, NOW, pending=(group,))
                self.campaign = replace(self.campaign, rounds=action.number)
            else:
                self.do(loop.CloseCampaign(CampaignState.COMPLETED, "nothing left"))
        elif isinstance(action, loop.CloseCampaign):
            self.campaign = replace(self.campaign, state=action.state, message=action.message)
        elif isinstance(action, loop.StartJob):
            self._start()
        elif isinstance(action, loop.SubmitJob | loop.PollJob | loop.StopJob | loop.CollectJob):
            self._follow(self.jobs[action.job_name])
        elif isinstance(action, loop.CloseCollection):
            assert self.round is not None
            self.round = replace(self.round, state=RoundState.COLLECTED)
        elif isinstance(action, loop.AggregateRound):
            assert self.round is not None
            again = self._choose(True, False, False)
            pending = (PageGroup(("x",), 1),) if again and len(self.jobs) < 8 else ()
            state = RoundState.COLLECTED if pending else RoundState.AGGREGATED
            self.round = replace(self.round, state=state, pending=pending)
        else:
            assert self.round is not None
            self.round = replace(self.round, state=RoundState.STOPPED, pending=())

    def _start(self) -> None:
        assert self.round is not None
        spec, group = self.campaign.spec, self.round.pending[0]
        worst = quote(len(group.image_ids), group.workers, group.workers, spec.group_size, spec.prices).max_cost
        money = self.campaign.money
        assert self.round.state is not RoundState.SELECTED or worst <= money.available
        if worst > money.available:
            self.round = replace(self.round, state=RoundState.AGGREGATED, pending=())
            return
        name = f"j{len(self.jobs)}"
        self.jobs[name] = replace(job(JobState.INTENT, name), reserved=worst)
        self.campaign = replace(self.campaign, money=replace(money, reserved=money.reserved + worst))
        self.round = replace(self.round, state=RoundState.LABELING, pending=self.round.pending[1:])

    def _follow(self, followed: LabelingJob) -> None:
        order = [JobState.INTENT, JobState.CREATED, JobState.IN_PROGRESS, JobState.COLLECTING, JobState.SETTLED]
        if followed.state is JobState.INTENT:
            self.creates.append(followed.job_name)
        if self._choose(True, True, False):
            state = order[order.index(followed.state) + 1]
            self.jobs[followed.job_name] = replace(followed, state=state)
            if state is JobState.SETTLED:
                money = self.campaign.money
                spent = money.spent + followed.reserved
                self.campaign = replace(
                    self.campaign, money=Money(money.budget, money.reserved - followed.reserved, spent)
                )


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 5_000_000), st.integers(0, 4), st.integers(1, 60))
def test_every_campaign_ends_within_its_budget(choices: st.DataObject, budget: int, rounds: int, size: int) -> None:
    spec = CampaignSpec(
        name="pets",
        classes=("cat",),
        budget_usd_micros=budget,
        fee_per_page_usd_micros=80_000,
        price_per_page_usd_micros=36_000,
        round_size=size,
        stop=StopRule(max_rounds=rounds or 5),
    )
    world = Model(spec, choices)
    for _ in range(500):
        actions = plan(world.observe())
        for action in actions:
            world.do(action)
        money = world.campaign.money
        assert money.spent + money.reserved <= money.budget
        if world.campaign.state.is_final:
            break
        assert actions, "a running campaign without an action waits for ever"
    else:
        pytest.fail("the campaign goes on for ever")
    assert all(j.state is JobState.SETTLED for j in world.jobs.values())


def test_the_first_rule_that_holds_names_itself() -> None:
    now = campaign(rounds=3, labeled=50, answers=150)
    spec = replace(now.spec, stop=StopRule(max_rounds=4, max_labels=50))
    assert stop_reason(replace(now, spec=spec), ()) == "50 labels are bought, the limit was 50"
    spec = replace(now.spec, stop=StopRule(min_yield=0.2, poor_rounds=2))
    assert stop_reason(replace(now, spec=spec), (0.1, 0.5, 0.1)) == ""
    assert "(10%, 0%; the limit is 20%)" in stop_reason(replace(now, spec=spec), (0.5, 0.1, 0.0))


@given(
    st.lists(
        st.builds(Tally, st.uuids().map(str), st.integers(0, 5), st.integers(0, 5), st.booleans(), st.integers(0, 3)),
        max_size=12,
    ),
    st.integers(1, 3),
    st.integers(3, 5),
    st.none() | st.integers(0, 20),
)
def test_repeats_never_ask_for_too_much(tallies: list[Tally], workers: int, most: int, left: int | None) -> None:
    made = repeats(tallies, workers, most, left)
    asked = [image_id for group in made.groups for image_id in group.image_ids]
    assert len(asked) == len(set(asked))
    by_id = {tally.image_id: tally for tally in tallies}
    for group in made.groups:
        for image_id in group.image_ids:
            assert by_id[image_id].answers + group.workers <= max(most, workers)
    if left is not None:
        assert sum(len(group.image_ids) * group.workers for group in made.groups) <= left
    assert not set(asked) & set(made.given_up)


def _doubtful(name: str, answers: int = 3, failed: int = 0) -> Tally:
    return Tally(name, answers, answers, wants_more=True, failed_pages=failed)


def test_doubtful_images_of_earlier_rounds_ride_along() -> None:
    now = [_doubtful("n1"), Tally("n2", 3, 3), Tally("n3", failed_pages=1)]
    before = [
        _doubtful("e1"),
        _doubtful("e2", answers=5),
        Tally("e3", failed_pages=1),
        _doubtful("e4"),
        _doubtful("e5"),
    ]
    made = repeats(now, 3, 5, None, before, room=3)
    assert made.groups == (PageGroup(("n3",), 3), PageGroup(("n1", "e1", "e4"), 1))
    assert made.given_up == ()
    assert repeats(now, 3, 5, 4, before, room=3).groups == (PageGroup(("n3",), 3), PageGroup(("n1",), 1))
    assert repeats([Tally("n2", 3, 3)], 3, 5, None, before, room=20).groups == (PageGroup(("e1", "e4", "e5"), 1),)
    assert repeats(now[:2], 3, 3, None, before, room=3).groups == ()


def test_nobody_waits_for_a_worker_whom_the_team_lacks() -> None:
    doubtful = [Tally("a", 3, 3, wants_more=True), Tally("b", 4, 4, wants_more=True)]
    assert repeats(doubtful, 3, 5, crowd=3).groups == ()
    assert repeats(doubtful, 3, 5, crowd=4).groups == (PageGroup(("a",), 1),)
    assert repeats(doubtful, 3, 5, crowd=8).groups == (PageGroup(("a", "b"), 1),)


@given(st.lists(st.integers(1, 6), max_size=9), st.lists(st.integers(1, 6), max_size=30), st.integers(0, 20))
def test_earlier_rounds_never_make_a_repeat_larger_than_the_round(own: list[int], old: list[int], room: int) -> None:
    now = [_doubtful(f"n{k}", answers) for k, answers in enumerate(own)]
    alone = repeats(now, 3, 5, None)
    made = repeats(now, 3, 5, None, [_doubtful(f"e{k}", answers) for k, answers in enumerate(old)], room)
    asked = [image_id for group in made.groups for image_id in group.image_ids]
    mine = [image_id for group in alone.groups for image_id in group.image_ids]
    assert asked[: len(mine)] == mine
    assert len(asked) <= max(room, len(mine))
    assert len(asked) == min(len(mine) + sum(answers < 5 for answers in old), max(room, len(mine)))


@given(st.integers(1, 500), st.integers(1, 5), st.integers(0, 4), st.integers(1, 40), st.integers(0, 10**8))
def test_what_is_affordable_fits_and_one_more_page_would_not(
    wanted: int, workers: int, more: int, group: int, available: int
) -> None:
    prices = CampaignSpec("a", ("b",), fee_per_page_usd_micros=80_000, price_per_page_usd_micros=12_000).prices
    count = affordable_images(wanted, workers, workers + more, group, prices, available)
    assert count <= wanted
    assert quote(count, workers, workers + more, group, prices).max_cost <= available
    if count < wanted:
        assert quote(min(count + group, count + 1), workers, workers + more, group, prices).max_cost > available


def test_a_quote_counts_pages_not_images() -> None:
    prices = CampaignSpec("a", ("b",), fee_per_page_usd_micros=80_000, price_per_page_usd_micros=36_000).prices
    thousand = quote(1000, 3, 3, 20, prices)
    assert (thousand.pages, thousand.min_cost, thousand.max_cost) == (50, 9_400_000, 9_400_000)
    more = quote(40, 3, 5, 20, prices)
    assert (more.min_answers, more.expected_answers, more.max_answers) == (120, 136, 200)
    assert more.min_cost <= more.expected_cost <= more.max_cost
