# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes a campaign's next steps: reads what is, asks the pure plan, does what it says.

Each action reads the store again before it acts and leaves the store in a state from which the next plan goes on, so
it may be interrupted anywhere.
"""

from __future__ import annotations

from dataclasses import replace

from gandt.domain.disk import is_disk_trouble
from gandt.domain.errors import (
    BackendUnavailable,
    Conflict,
    DeadlineExceeded,
    GandtError,
    OverBudget,
    Overloaded,
    Unauthenticated,
    WrongState,
)
from gandt.domain.labeling import rounds as loop
from gandt.domain.labeling.campaigns import Campaign, CampaignState
from gandt.domain.labeling.jobs import LabelingJob
from gandt.domain.labeling.rounds import Observed, Round, RoundState
from gandt_jobcontroller.service.aggregating import aggregate_round
from gandt_jobcontroller.service.collecting import collect_job, poll_job
from gandt_jobcontroller.service.launching import start_job, stop_job, submit_job
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.proving import prove
from gandt_jobcontroller.service.selecting import select_round, top_up_round

ALL_ROUNDS = 100_000
NOTHING_LEFT = "no image is left to select"


def observe(parts: Parts, campaign_id: str) -> Observed:
    """What is, as the plan needs it."""
    campaign = parts.store.get_campaign(campaign_id)
    yields: tuple[float, ...] = ()
    if campaign.spec.stop.min_yield and campaign.spec.target_labels:
        done = parts.store.list_rounds(campaign_id, 0, ALL_ROUNDS)
        yields = tuple(
            r.main_targets / r.main_images for r in done if r.state is RoundState.AGGREGATED and r.main_images
        )
    jobs = tuple(parts.store.list_jobs(campaign_id, only_open=True))
    newest = parts.store.newest_round(campaign_id)
    may_begin = campaign.state is CampaignState.RUNNING and not jobs and (newest is None or newest.state.is_final)
    proof = prove(parts, campaign) if campaign.spec.stop.prove_recall and may_begin else None
    return Observed(campaign, newest, jobs, yields, proof)


def take_step(parts: Parts, campaign_id: str, polls: bool = True) -> int:
    """Plan and perform one campaign's next actions; returns how many changed something.

    Args:
        polls: whether running jobs are asked about; False between two polls.

    Raises:
        GandtError: an action cannot be done (now); nothing that was done before is lost.
    """
    done = 0
    for action in loop.plan(observe(parts, campaign_id)):
        if isinstance(action, loop.PollJob) and not polls:
            continue
        with parts.step:
            done += perform(parts, campaign_id, action)
    return done


def perform(parts: Parts, campaign_id: str, action: loop.Action) -> bool:
    """Do one action; returns whether anything changed."""
    if isinstance(action, loop.PollJob | loop.SubmitJob | loop.StopJob | loop.CollectJob):
        return _job_action(parts, action)
    campaign = parts.store.get_campaign(campaign_id)
    if isinstance(action, loop.SelectRound):
        if select_round(parts, campaign, action.count, phase=action.phase) is None:
            close_campaign(parts, campaign_id, CampaignState.COMPLETED, _with_proof(parts, campaign, NOTHING_LEFT))
        return True
    if isinstance(action, loop.CloseCampaign):
        close_campaign(parts, campaign_id, action.state, _with_proof(parts, campaign, action.message))
        return True
    current = parts.store.get_round(action.round_id)
    if isinstance(action, loop.StartJob):
        _start(parts, campaign, current)
    elif isinstance(action, loop.CloseCollection):
        close_collection(parts, current)
    elif isinstance(action, loop.AbandonRound):
        abandon(parts, current)
    elif isinstance(action, loop.TopUpRound):
        top_up(parts, campaign, current, action.count)
    else:
        if not action.repeats:
            current = close_collection(parts, current)
        aggregate_round(parts, campaign, current, action.repeats)
    return True


def top_up(parts: Parts, campaign: Campaign, current: Round, count: int) -> Round:
    """Make labels of the answers so far, and select the round's next part from them."""
    if count > 0:
        aggregate_round(parts, campaign, current, with_repeats=False, closes=False)
    return top_up_round(parts, campaign, current, count)


def _with_proof(parts: Parts, campaign: Campaign, message: str) -> str:
    """Why a campaign ends, and what it has proven by then, whatever it ends for."""
    proof = prove(parts, campaign) if campaign.labeled else None
    return message if proof is None or not proof.control else f"{message}; {proof.sentence}"


def close_collection(parts: Parts, current: Round) -> Round:
    """All answers of a round are in; nothing of it waits any more."""

    def collected(now: Round) -> Round:
        return now if now.state.is_final else replace(now, state=RoundState.COLLECTED, pending=())

    return parts.store.change_round(current.round_id, collected, parts.clock.now())


def abandon(parts: Parts, current: Round) -> None:
    """Close a round whose labels are not made."""
    parts.store.change_round(
        current.round_id, lambda now: replace(now, state=RoundState.STOPPED, pending=()), parts.clock.now()
    )


def close_campaign(parts: Parts, campaign_id: str, state: CampaignState, message: str) -> Campaign:
    """End a campaign; a final one stays as it is."""

    def closed(now: Campaign) -> Campaign:
        return now if now.state.is_final else replace(now, state=state, message=message)

    return parts.store.change_campaign(campaign_id, closed, parts.clock.now())


def _start(parts: Parts, campaign: Campaign, current: Round) -> None:
    """Start the round's next job; without money for it, the round ends with the labels that it has."""
    try:
        start_job(parts, campaign, current)
    except OverBudget:
        if current.state is RoundState.SELECTED:
            abandon(parts, current)
            return

        def settled(now: Round) -> Round:
            text = "the budget does not reach for more answers to uncertain images"
            return replace(now, state=RoundState.AGGREGATED, pending=(), warnings=(*now.warnings, text))

        parts.store.change_round(current.round_id, settled, parts.clock.now())


def _job_action(parts: Parts, action: loop.PollJob | loop.SubmitJob | loop.StopJob | loop.CollectJob) -> bool:
    job = parts.store.get_job(action.job_name)
    if job.state.is_final or _is_too_early(parts, job, action):
        return False
    if isinstance(action, loop.PollJob):
        return poll_job(parts, job).version != job.version
    if isinstance(action, loop.StopJob):
        return stop_job(parts, job).version != job.version
    if isinstance(action, loop.SubmitJob):
        return submit_job(parts, job).version != job.version
    collected = collect_job(parts, job)
    if collected.broken:
        message = f"labeling job {job.job_name} failed at the backend: {collected.job.message or 'no reason given'}"
        close_campaign(parts, job.campaign_id, CampaignState.FAILED, message)
    return collected.job.version != job.version


def _is_too_early(parts: Parts, job: LabelingJob, action: loop.Action) -> bool:
    waits = isinstance(action, loop.SubmitJob | loop.CollectJob)
    return waits and job.next_try_at is not None and parts.clock.now() < job.next_try_at


def is_passing(error: GandtError) -> bool:
    """Whether a later try of the same may succeed."""
    passing = BackendUnavailable | Conflict | DeadlineExceeded | Overloaded | Unauthenticated | WrongState
    return isinstance(error, passing) or is_disk_trouble(error)
