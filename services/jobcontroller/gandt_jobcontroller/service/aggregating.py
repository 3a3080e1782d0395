# SPDX-License-Identifier: GPL-3.0-or-later
"""The step that makes labels of all answers of a campaign, and names the images that get another one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gandt.domain.catalog import LabelKind
from gandt.domain.datasets import Arm, LabelEstimate, LabelStatus
from gandt.domain.errors import WrongState
from gandt.domain.labeling.campaigns import Campaign, CampaignState
from gandt.domain.labeling.money import pages_of
from gandt.domain.labeling.outcomes import Aggregated
from gandt.domain.labeling.rounds import Repeats, Round, RoundState, Tally, repeats
from gandt_jobcontroller.service.naming import is_usable
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.peers import AggregationAnswer, AggregationQuestion


def aggregate_round(
    parts: Parts, campaign: Campaign, collected: Round, with_repeats: bool = True, closes: bool = True
) -> Aggregated:
    """Aggregate every answer of the campaign, store the labels, and close the round or plan repeats.

    A round goes on while images want another answer, its own and those of earlier rounds that look doubtful now; in a
    manual campaign it is closed, and its repeats wait for another CreateLabelingJob.

    Args:
        closes: False leaves the round open, to be topped up from the labels that are made here.

    Raises:
        WrongState: answers of the round are still to come.
    """
    imported = collected.state is RoundState.SELECTED and collected.answers > 0  # answers from elsewhere, no job
    if collected.state in (RoundState.SELECTED, RoundState.LABELING) and not imported:
        raise WrongState(
            f"round {collected.number} has answers still to come",
            kind="round",
            id=collected.round_id,
            state=collected.state.value,
            reason="ROUND_OPEN",
            fix="collect it first",
        )
    question = _question(parts, campaign)
    answer = parts.peers.aggregator.aggregate(question) if question.answers else _NOTHING
    tallies = parts.store.tallies(collected.round_id)
    planned = _repeats(parts, campaign, collected, question, answer, tallies) if with_repeats else Repeats()
    parts.checkpoint("aggregated")
    manual = campaign.state is CampaignState.MANUAL
    warnings = (*answer.warnings, *_given_up(planned))

    def closed(now: Round) -> Round:
        state = RoundState.COLLECTED if planned.groups and not manual else RoundState.AGGREGATED
        kept = tuple(dict.fromkeys((*now.warnings, *warnings)))
        if not closes:
            return replace(now, warnings=kept)
        return replace(now, state=state, pending=planned.groups, warnings=kept)

    estimates = [*answer.estimates, *_unanswered(answer, tallies)]
    targets = set(campaign.spec.target_labels)
    done = parts.store.write_labels(collected.round_id, estimates, answer.workers, targets, closed, parts.clock.now())
    parts.checkpoint("labels-written")
    ids = {tally.image_id for tally in tallies}
    certain = sum(e.status is LabelStatus.CERTAIN for e in answer.estimates if e.image_id in ids)
    need = sum(len(group.image_ids) for group in planned.groups)
    return Aggregated(done, answer.method, certain, need, warnings)


_NOTHING = AggregationAnswer((), (), "", ("no answer has come in",))


def _question(parts: Parts, campaign: Campaign) -> AggregationQuestion:
    spec = campaign.spec
    return AggregationQuestion(
        space=spec.space,
        method=spec.method,
        answers=parts.store.all_answers(campaign.campaign_id),
        gold=[label for label in parts.store.known_labels(LabelKind.GOLD) if is_usable(label, spec.space)],
        min_answers=min(2, spec.workers_per_image),
    )


def _repeats(
    parts: Parts,
    campaign: Campaign,
    collected: Round,
    question: AggregationQuestion,
    answer: AggregationAnswer,
    tallies: Sequence[Tally],
) -> Repeats:
    spec = campaign.spec
    wants: set[str] = set()
    if spec.max_workers_per_image > spec.workers_per_image and question.answers:
        wants = parts.peers.aggregator.wants_more(question, spec.max_workers_per_image)
    left = max(0, spec.stop.max_answers - campaign.answers) if spec.stop.max_answers else None
    control = _wanted_control(parts, collected, answer, set(spec.target_labels))
    marked = [
        replace(tally, wants_more=tally.image_id in wants, adjudicated=tally.image_id in control) for tally in tallies
    ]
    older = wants.difference(tally.image_id for tally in tallies)
    earlier = parts.store.earlier_tallies(collected.round_id) if older else []
    doubtful = [replace(tally, wants_more=True) for tally in earlier if tally.image_id in older]
    room = pages_of(len(tallies), spec.images_per_page) * spec.images_per_page
    crowd = len({answer.worker_id for answer in question.answers})
    return repeats(marked, spec.workers_per_image, spec.max_workers_per_image, left, doubtful, room, crowd)


def _wanted_control(parts: Parts, collected: Round, answer: AggregationAnswer, targets: set[str]) -> set[str]:
    """Control images of the round that look wanted; crowd noise among them would break the proof."""
    wanted = {e.image_id for e in answer.estimates if not targets.isdisjoint(e.labels)}
    if not wanted:
        return set()
    picks = parts.store.get_round(collected.round_id, with_picks=True).picks
    return {pick.image_id for pick in picks if pick.arm == Arm.CONTROL and pick.image_id in wanted}


def _given_up(planned: Repeats) -> tuple[str, ...]:
    count = len(planned.given_up)
    return (f"{count} images were given up: their pages failed or were stopped",) if count else ()


def _unanswered(answer: AggregationAnswer, tallies: Sequence[Tally]) -> list[LabelEstimate]:
    """An unlabeled row for each image of the round that aggregation has not seen: what goes in comes out."""
    seen = {estimate.image_id for estimate in answer.estimates}
    return [
        LabelEstimate(tally.image_id, (), 0.0, LabelStatus.UNLABELED, 0, 0)
        for tally in tallies
        if tally.image_id not in seen
    ]
