# SPDX-License-Identifier: GPL-3.0-or-later
"""The loop of a campaign: what a round is, and what to do next.

`plan` is the whole decision, free of clock and I/O. The controller reads what is, asks `plan`, performs the actions,
and starts over; after a crash it does the same. Every action is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gandt.domain.labeling.campaigns import Campaign, CampaignState, stop_reason
from gandt.domain.labeling.jobs import JobState, LabelingJob
from gandt.domain.labeling.money import affordable_images
from gandt.domain.selection.phases import Phase
from gandt.domain.selection.proof import Proof


class RoundState(StrEnum):
    """Where a round stands; the last two are final."""

    SELECTED = "selected"
    LABELING = "labeling"
    COLLECTED = "collected"
    AGGREGATED = "aggregated"
    STOPPED = "stopped"

    @property
    def is_final(self) -> bool:
        """Whether the next round may begin."""
        return self in (RoundState.AGGREGATED, RoundState.STOPPED)


@dataclass(frozen=True, slots=True)
class PageGroup:
    """Images to be asked about in one labeling job.

    Attributes:
        image_ids: what to ask about.
        workers: answers to each page.
    """

    image_ids: tuple[str, ...]
    workers: int


ASKED_AGAIN = 0  # stratum of a pick that had a label already (strategy relabel): it was drawn from no pool


@dataclass(frozen=True, slots=True)
class Pick:
    """One image of a round and how it came into it; fields as in the contract.

    Attributes:
        part, stratum: the draw that it came from; see `gandt.domain.selection.proof.Sampled`.
    """

    image_id: str
    rank: int
    score: float = 0.0
    reason: str = ""
    arm: str = "main"
    inclusion_probability: float = 0.0
    pool_size: int = 0
    uris: tuple[str, ...] = ()
    part: int = 1
    stratum: int = 1


@dataclass(frozen=True, slots=True)
class Draw:
    """What a round, or a part of one, was selected from.

    Attributes:
        part: number within the round, from 1.
        found_before: targets known before the draw, seeds included.
        pools: unlabeled images by stratum, the number of the round that first had them in its pool.
    """

    part: int
    found_before: int
    pools: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Round:
    """A round as it is.

    Attributes:
        pending: groups that wait for a labeling job, in order; the first round's job takes all picks.
        planned: images that it is to have when all its parts are selected; 0 for those that it has.
        draws: what each of its parts was selected from.
        cost: settled so far, in millionths of a US dollar.
        main_images, main_targets: picks of the main arm, and the targets among them.
    """

    round_id: str
    campaign_id: str
    number: int
    state: RoundState
    created_at: datetime
    strategy: str = ""
    explanation: str = ""
    images: int = 0
    answers: int = 0
    targets_found: int = 0
    cost: int = 0
    control_images: int = 0
    control_targets: int = 0
    main_images: int = 0
    main_targets: int = 0
    warnings: tuple[str, ...] = ()
    pending: tuple[PageGroup, ...] = ()
    picks: tuple[Pick, ...] = ()
    planned: int = 0
    draws: tuple[Draw, ...] = ()
    version: int = 1

    @property
    def left(self) -> int:
        """Images that are still to be selected into it."""
        return max(0, self.planned - self.images)


@dataclass(frozen=True, slots=True)
class Observed:
    """What is, as read from the store.

    Attributes:
        round: the newest round; None before the first.
        jobs: labeling jobs that are not final, of any round of the campaign.
        yields: see `stop_reason`.
        proof: what is proven, in a campaign that is to prove something; read when a round may begin.
    """

    campaign: Campaign
    round: Round | None = None
    jobs: tuple[LabelingJob, ...] = ()
    yields: tuple[float, ...] = ()
    proof: Proof | None = None


@dataclass(frozen=True, slots=True)
class SelectRound:
    """Select at most `count` images and make them the next round; to prove, all of them uniformly."""

    number: int
    count: int
    phase: Phase = Phase.FIND


@dataclass(frozen=True, slots=True)
class TopUpRound:
    """Select at most `count` more images into a round, from the answers so far; 0 leaves it as it is."""

    round_id: str
    count: int


@dataclass(frozen=True, slots=True)
class StartJob:
    """Write down the intent of a labeling job for the round's first pending group, money reserved."""

    round_id: str


@dataclass(frozen=True, slots=True)
class SubmitJob:
    """Bring a written intent to the backend, or find it there."""

    job_name: str


@dataclass(frozen=True, slots=True)
class PollJob:
    """Ask the backend how far a job is."""

    job_name: str


@dataclass(frozen=True, slots=True)
class StopJob:
    """Ask the backend to stop a job, or withdraw it where it never began."""

    job_name: str


@dataclass(frozen=True, slots=True)
class CollectJob:
    """Read the answers of an ended job and settle its money."""

    job_name: str


@dataclass(frozen=True, slots=True)
class CloseCollection:
    """All answers of the round are in."""

    round_id: str


@dataclass(frozen=True, slots=True)
class AggregateRound:
    """Make labels of all answers; plan repeats unless the campaign is ending."""

    round_id: str
    repeats: bool = True


@dataclass(frozen=True, slots=True)
class AbandonRound:
    """Close a round whose labels will not be made."""

    round_id: str


@dataclass(frozen=True, slots=True)
class CloseCampaign:
    """End the campaign."""

    state: CampaignState
    message: str


Action = (
    SelectRound
    | TopUpRound
    | StartJob
    | SubmitJob
    | PollJob
    | StopJob
    | CollectJob
    | CloseCollection
    | AggregateRound
    | AbandonRound
    | CloseCampaign
)


def next_round_size(campaign: Campaign) -> tuple[int, str]:
    """Images that the next round may have, and why none when it is 0.

    Rules of the campaign bound it: what is left of labels and of answers, and the worst case must fit into the money.
    """
    spec, stop = campaign.spec, campaign.spec.stop
    count = spec.round_size
    if stop.max_labels:
        count = min(count, stop.max_labels - campaign.labeled)
    if stop.max_answers:
        count = min(count, (stop.max_answers - campaign.answers) // spec.workers_per_image)
        if count <= 0:
            return 0, f"another image would need more answers than the limit of {stop.max_answers}"
    affordable = affordable_images(
        count,
        spec.workers_per_image,
        spec.max_workers_per_image,
        spec.images_per_page,
        spec.prices,
        campaign.money.available,
    )
    if affordable <= 0:
        return 0, "the budget does not reach for another page"
    return affordable, ""


def _open_job(job: LabelingJob, campaign: Campaign) -> Action | None:
    """What an open job needs next."""
    if campaign.state is CampaignState.STOPPING and job.state not in (JobState.STOPPING, JobState.COLLECTING):
        return StopJob(job.job_name)
    if job.state is JobState.INTENT:
        return None if campaign.state is CampaignState.PAUSED else SubmitJob(job.job_name)
    if job.state is JobState.COLLECTING:
        # In a manual campaign reading answers is a step of its own (CollectRound).
        return None if campaign.state is CampaignState.MANUAL else CollectJob(job.job_name)
    return PollJob(job.job_name)


def plan(observed: Observed) -> list[Action]:
    """What to do next, in order; nothing while people are at work, or when only a caller may act.

    Promises, whatever is observed: no job is started while another of the campaign is open and has its group,
    no round begins before the last one is final, and a campaign that is paused, manual or final starts nothing.
    """
    campaign, newest = observed.campaign, observed.round
    if campaign.state.is_final:
        return []
    needed = [action for job in observed.jobs if (action := _open_job(job, campaign)) is not None]
    if observed.jobs or campaign.state in (CampaignState.MANUAL, CampaignState.PAUSED):
        return needed
    if campaign.state is CampaignState.STOPPING:
        return _wind_down(newest)
    if newest is None or newest.state.is_final:
        reason = stop_reason(campaign, observed.yields, observed.proof)
        if reason:
            return [CloseCampaign(CampaignState.COMPLETED, reason)]
        count, why_none = next_round_size(campaign)
        if count <= 0:
            return [CloseCampaign(CampaignState.COMPLETED, why_none)]
        phase = observed.proof.phase if observed.proof is not None else Phase.FIND
        return [SelectRound(campaign.rounds + 1, count, phase)]
    if newest.pending:
        return [StartJob(newest.round_id)]
    if newest.state is RoundState.COLLECTED and newest.left:
        return [TopUpRound(newest.round_id, min(newest.left, campaign.spec.part_size, next_round_size(campaign)[0]))]
    if newest.state is RoundState.COLLECTED:
        return [AggregateRound(newest.round_id)]
    return [CloseCollection(newest.round_id)]


def _wind_down(newest: Round | None) -> list[Action]:
    """A stopping campaign without open jobs: labels of what was answered, then the end."""
    close = CloseCampaign(CampaignState.STOPPED, "stopped on request")
    if newest is None or newest.state.is_final:
        return [close]
    if newest.answers:
        return [AggregateRound(newest.round_id, repeats=False), close]
    return [AbandonRound(newest.round_id), close]


@dataclass(frozen=True, slots=True)
class Tally:
    """What is known of one image after the jobs that asked about it.

    Attributes:
        votes: answers that vote.
        answers: answers of any kind, those that do not vote too.
        wants_more: aggregation would ask again.
        failed_pages: pages with this image that failed or were never reached.
        adjudicated: a wanted control image; it gets one answer more than others, as the proof rests on it.
    """

    image_id: str
    votes: int = 0
    answers: int = 0
    wants_more: bool = False
    failed_pages: int = 0
    adjudicated: bool = False


MAX_FAILED_PAGES = 2  # an image whose pages failed twice is left alone


@dataclass(frozen=True, slots=True)
class Repeats:
    """Images to be asked again, and images that are given up."""

    groups: tuple[PageGroup, ...] = ()
    given_up: tuple[str, ...] = field(default=())


def repeats(
    tallies: Sequence[Tally],
    workers: int,
    max_workers: int,
    answers_left: int | None = None,
    earlier: Sequence[Tally] = (),
    room: int = 0,
    crowd: int | None = None,
) -> Repeats:
    """Which images get another page.

    Images of the round that nobody answered (their page failed) get a full page again, twice at most; uncertain ones
    get one more answer as long as they have fewer than `max_workers` in all. So do uncertain images of earlier rounds:
    what was certain then may be doubtful now that more is known of the workers who said it. A wanted control image is
    adjudicated: it gets one answer more than `workers`, whatever `max_workers` says.

    Args:
        tallies: one for each image of the round, in rank order.
        workers: answers a fresh page gets.
        max_workers: most answers an image may get.
        answers_left: answers that may still be bought; None means no limit.
        earlier: images of earlier rounds, in the order in which they are asked again.
        room: tiles on as many pages as the round itself has. Images of earlier rounds take what the round's own leave
            of it, so that no repeat takes more pages than the round; the rest waits for the next repeat.
        crowd: workers who have answered in the campaign; None when unknown. Nobody sees an image twice, so one that
            all of them have answered would wait for somebody who may never come.
    """
    max_workers = max_workers if crowd is None else min(max_workers, crowd)
    one_more = workers + 1 if crowd is None else min(workers + 1, crowd)
    unseen = [t.image_id for t in tallies if t.answers == 0 and 0 < t.failed_pages < MAX_FAILED_PAGES]
    given_up = tuple(t.image_id for t in tallies if t.answers == 0 and t.failed_pages >= MAX_FAILED_PAGES)
    again = [t.image_id for t in tallies if _may_be_asked_again(t, max_workers, one_more)]
    again += [t.image_id for t in earlier if _may_be_asked_again(t, max_workers, one_more)][: max(0, room - len(again))]
    if answers_left is not None:
        unseen = unseen[: max(0, answers_left // workers)]
        again = again[: max(0, answers_left - len(unseen) * workers)]
    groups = []
    if unseen:
        groups.append(PageGroup(tuple(unseen), workers))
    if again:
        groups.append(PageGroup(tuple(again), 1))
    return Repeats(tuple(groups), given_up)


def _may_be_asked_again(tally: Tally, max_workers: int, one_more: int) -> bool:
    wanted = (tally.wants_more and tally.answers < max_workers) or (tally.adjudicated and tally.answers < one_more)
    return wanted and tally.answers > 0 and tally.failed_pages < MAX_FAILED_PAGES + tally.answers
