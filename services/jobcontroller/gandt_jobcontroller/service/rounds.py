# SPDX-License-Identifier: GPL-3.0-or-later
"""Use cases of rounds and labeling jobs: each call performs its step fully."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from gandt.domain.errors import WrongState
from gandt.domain.labeling.campaigns import Campaign, CampaignState
from gandt.domain.labeling.jobs import JobState, LabelingJob
from gandt.domain.labeling.money import EXPECTED_REPEAT_SHARE, Money, Quote, quote
from gandt.domain.labeling.outcomes import Aggregated, RoundCollected
from gandt.domain.labeling.rounds import Round, RoundState
from gandt.domain.paging import number_of, page_size, token_after
from gandt.domain.selection.forecast import Forecast
from gandt.domain.selection.phases import Phase
from gandt.ports.clock import NO_DEADLINE, Deadline
from gandt_jobcontroller.service.admission import check_strategy
from gandt_jobcontroller.service.aggregating import aggregate_round
from gandt_jobcontroller.service.campaigns import WATCH_SECONDS
from gandt_jobcontroller.service.collecting import collect_job, poll_job
from gandt_jobcontroller.service.launching import start_job, stop_job, submit_job
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.proving import forecast_of, prove
from gandt_jobcontroller.service.reconcile import close_collection, top_up
from gandt_jobcontroller.service.selecting import select_round


class Rounds:
    """Rounds and labeling jobs as callers see them.

    Args:
        wake: tells the loop that something has changed.
    """

    def __init__(self, parts: Parts, wake: Callable[[], None]) -> None:
        self._parts = parts
        self._wake = wake

    def create(self, campaign_id: str, count: int, strategy: str, request_id: str) -> Round:
        """Select images and make them the next round of a manual campaign, or the next part of a round in parts.

        Raises:
            WrongState: the campaign runs by itself, the round before is not closed, nothing is embedded, or no image
                is left.
            InvalidInput: nobody offers the strategy.
        """
        store = self._parts.store
        with self._parts.step:
            made = store.round_of_request(request_id) if request_id else None
            if made is not None:
                return self._with_uris(made)
            campaign = self._manual(store.get_campaign(campaign_id), "select a round")
            before = store.newest_round(campaign.campaign_id)
            if before is not None and before.state is RoundState.COLLECTED and before.left and not before.pending:
                topped_up = top_up(self._parts, campaign, before, min(before.left, count or campaign.spec.part_size))
                return self._with_uris(store.get_round(topped_up.round_id, with_picks=True))
            if before is not None and not before.state.is_final:
                raise WrongState(
                    f"round {before.number} of campaign {campaign.spec.name} is {before.state}, so the next one "
                    "cannot begin",
                    kind="round",
                    id=before.round_id,
                    state=before.state.value,
                    reason="ROUND_OPEN",
                    fix="collect and aggregate it first",
                )
            check_strategy(self._parts.peers.selector, strategy, campaign.spec.target_labels)
            proof = prove(self._parts, campaign) if campaign.spec.stop.prove_recall else None
            phase = proof.phase if proof is not None else Phase.FIND
            new = select_round(self._parts, campaign, count or campaign.spec.round_size, strategy, request_id, phase)
        if new is None:
            raise WrongState(
                f"campaign {campaign.spec.name} has no image left to select",
                kind="campaign",
                id=campaign.campaign_id,
                state=campaign.state.value,
                reason="NOTHING_LEFT",
                fix="import and embed more images",
            )
        return self._with_uris(new)

    def get(self, round_id: str) -> Round:
        """A round with its picks; "" means the newest of the newest campaign."""
        return self._with_uris(self._parts.store.get_round(round_id, with_picks=True))

    def list_rounds(self, campaign_id: str, size: int, token: str) -> tuple[list[Round], str]:
        """A page of rounds by number, and the next token."""
        limit = page_size(size, 100, 1000)
        campaign = self._parts.store.get_campaign(campaign_id)
        listing = f"rounds:{campaign.campaign_id}"
        rounds = self._parts.store.list_rounds(campaign.campaign_id, number_of(token, listing), limit)
        return rounds, token_after(listing, rounds[-1].number) if len(rounds) == limit else ""

    def quote(self, round_id: str) -> tuple[Quote, Money, Forecast | None]:
        """What the round's next job, with its repeats, will take, the campaign's money, and what is still to come.

        Before its first round the newest campaign is quoted without one.
        """
        if not round_id:
            newest = self._parts.store.get_campaign("")
            if not newest.rounds:
                return _sum_of([]), newest.money, forecast_of(self._parts, newest)
        current = self._parts.store.get_round(round_id)
        campaign = self._parts.store.get_campaign(current.campaign_id)
        spec = campaign.spec
        if current.state is RoundState.SELECTED:
            images = sum(len(group.image_ids) for group in current.pending)
            asked = quote(
                images,
                spec.workers_per_image,
                spec.max_workers_per_image,
                spec.images_per_page,
                spec.prices,
                _repeat_share(campaign),
            )
            return asked, campaign.money, forecast_of(self._parts, campaign)
        groups = [
            quote(len(group.image_ids), group.workers, group.workers, spec.images_per_page, spec.prices)
            for group in current.pending
        ]
        return _sum_of(groups), campaign.money, forecast_of(self._parts, campaign)

    def collect(self, round_id: str) -> RoundCollected:
        """Read the answers of a round's ended jobs; running it again changes nothing.

        Raises:
            WrongState: the round has no labeling job yet.
            BackendUnavailable, Overloaded: the backend or a store does not answer.
        """
        parts, store = self._parts, self._parts.store
        with parts.step:
            current = store.get_round(round_id)
            jobs = store.list_jobs(current.campaign_id, current.round_id)
            if not jobs and current.state is RoundState.SELECTED:
                raise WrongState(
                    f"round {current.number} has no labeling job yet",
                    kind="round",
                    id=current.round_id,
                    state=current.state.value,
                    reason="NOT_LAUNCHED",
                    fix="launch it first",
                )
            new = sum(self._collect(job) for job in jobs if not job.state.is_final)
            jobs = store.list_jobs(current.campaign_id, current.round_id)
            if current.state is RoundState.LABELING and all(job.state.is_final for job in jobs):
                close_collection(parts, current)
            failed = sum(t.answers == 0 and t.failed_pages > 0 for t in store.tallies(current.round_id))
            quarantined = tuple(store.list_quarantine([job.job_name for job in jobs]))
            self._wake()
            return RoundCollected(store.get_round(current.round_id), new, failed, quarantined)

    def aggregate(self, round_id: str) -> Aggregated:
        """Make labels of all answers and close the round; of a closed round it makes them anew.

        Raises:
            WrongState: answers of the round are still to come.
        """
        with self._parts.step:
            current = self._parts.store.get_round(round_id)
            campaign = self._parts.store.get_campaign(current.campaign_id)
            newest = self._parts.store.newest_round(campaign.campaign_id)
            latest = newest is not None and newest.round_id == current.round_id
            again = campaign.state is CampaignState.MANUAL or not current.state.is_final
            made = aggregate_round(self._parts, campaign, current, with_repeats=latest and again)
            self._wake()
            return made

    def create_job(self, round_id: str, request_id: str) -> LabelingJob:
        """Reserve the money and start a labeling job for what waits in a manual campaign's round.

        Raises:
            OverBudget: the worst case does not fit into the budget; nothing was written.
            WrongState: the campaign runs by itself, or no images wait.
            InvalidInput, PermissionDenied: the backend refused; nothing was spent.
            BackendUnavailable, Overloaded, Unauthenticated: the intent is written; the loop brings it to the backend,
                and so does the same call.
        """
        parts, store = self._parts, self._parts.store
        with parts.step:
            job = store.job_of_request(request_id) if request_id else None
            if job is None:
                current = store.get_round(round_id)
                campaign = self._manual(store.get_campaign(current.campaign_id), "start a labeling job")
                waiting = store.list_jobs(campaign.campaign_id, current.round_id, only_open=True)
                intents = [open_job for open_job in waiting if open_job.state is JobState.INTENT]
                job = intents[0] if intents else start_job(parts, campaign, current, request_id)
            if job.state is JobState.INTENT:
                job = submit_job(parts, job)
        self._wake()
        return job

    def get_job(self, job_name: str) -> LabelingJob:
        """A labeling job by name."""
        return self._parts.store.get_job(job_name)

    def list_jobs(self, campaign_id: str, round_id: str, size: int, token: str) -> tuple[list[LabelingJob], str]:
        """A page of jobs of a campaign, or of one round, oldest first, and the next token."""
        limit = page_size(size, 100, 1000)
        store = self._parts.store
        if round_id and not campaign_id:
            campaign_id = store.get_round(round_id).campaign_id
        campaign = store.get_campaign(campaign_id)
        listing = f"jobs:{campaign.campaign_id}:{round_id}"
        jobs = store.list_jobs(campaign.campaign_id, round_id, number_of(token, listing), limit)
        return jobs, token_after(listing, jobs[-1].sequence) if len(jobs) == limit else ""

    def watch_job(self, job_name: str, deadline: Deadline = NO_DEADLINE) -> Iterator[LabelingJob]:
        """The job now and after each change, until it is settled or refused."""
        seen = 0
        while True:
            deadline.check()
            if self._parts.store.job_version(job_name) != seen or not seen:
                job = self._parts.store.get_job(job_name)
                seen = job.version
                yield job
                if job.state.is_final:
                    return
            self._parts.clock.sleep(WATCH_SECONDS)

    def stop_job(self, job_name: str) -> LabelingJob:
        """Stop a labeling job; one that has ended stays as it is."""
        with self._parts.step:
            job = self._parts.store.get_job(job_name)
            if not job.state.is_final and job.state is not JobState.COLLECTING:
                job = stop_job(self._parts, job)
        self._wake()
        return job

    def _collect(self, job: LabelingJob) -> int:
        """Follow one job and take in its answers when it has ended."""
        if job.state is JobState.INTENT:
            return 0
        if job.state is not JobState.COLLECTING:
            job = poll_job(self._parts, job)
        return collect_job(self._parts, job).new_answers if job.state is JobState.COLLECTING else 0

    def _manual(self, campaign: Campaign, what: str) -> Campaign:
        if campaign.state is CampaignState.MANUAL:
            return campaign
        reason = "CAMPAIGN_OVER" if campaign.state.is_final else "CAMPAIGN_RUNS"
        raise WrongState(
            f"campaign {campaign.spec.name} is {campaign.state}, so nobody else may {what}",
            kind="campaign",
            id=campaign.campaign_id,
            state=campaign.state.value,
            reason=reason,
            fix="create a manual campaign for single steps",
        )

    def _with_uris(self, current: Round) -> Round:
        images = self._parts.store.get_images([pick.image_id for pick in current.picks])
        picks = tuple(
            replace(pick, uris=images[pick.image_id].uris if pick.image_id in images else ()) for pick in current.picks
        )
        return replace(current, picks=picks)


def _repeat_share(campaign: Campaign) -> tuple[int, int]:
    """Share of images that needed another answer so far, as a fraction."""
    extra = campaign.answers - campaign.labeled * campaign.spec.workers_per_image
    if campaign.labeled < campaign.spec.round_size or extra < 0:
        return EXPECTED_REPEAT_SHARE
    return min(extra, campaign.labeled), campaign.labeled


def _sum_of(groups: list[Quote]) -> Quote:
    total = Quote(0, 0, 0, 0, 0, 0, 0, 0)
    for one in groups:
        total = Quote(
            images=total.images + one.images,
            pages=total.pages + one.pages,
            min_answers=total.min_answers + one.min_answers,
            expected_answers=total.expected_answers + one.expected_answers,
            max_answers=total.max_answers + one.max_answers,
            min_cost=total.min_cost + one.min_cost,
            expected_cost=total.expected_cost + one.expected_cost,
            max_cost=total.max_cost + one.max_cost,
        )
    return total
