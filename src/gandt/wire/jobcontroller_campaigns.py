# SPDX-License-Identifier: GPL-3.0-or-later
"""gandt.jobcontroller.v1 messages of campaigns, rounds and labeling jobs to and from domain records."""

from __future__ import annotations

from typing import Any

from gandt.api.jobcontroller.v1 import jobcontroller_pb2 as pb
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, CampaignState, StopRule
from gandt.domain.labeling.jobs import JobReport, JobState, LabelingJob
from gandt.domain.labeling.money import Money, Quote
from gandt.domain.labeling.outcomes import Aggregated, RoundCollected
from gandt.domain.labeling.rounds import Draw, Pick, Round, RoundState
from gandt.domain.selection.forecast import Forecast
from gandt.wire import jobcontroller_proofs as proofs
from gandt.wire.jobcontroller import moment, quarantined, quarantined_message, timestamp

CONTROL_FRACTION = 0.1  # of a round when the spec does not say

_CAMPAIGN_STATES = {
    pb.Campaign.STATE_RUNNING: CampaignState.RUNNING,
    pb.Campaign.STATE_PAUSED: CampaignState.PAUSED,
    pb.Campaign.STATE_STOPPING: CampaignState.STOPPING,
    pb.Campaign.STATE_COMPLETED: CampaignState.COMPLETED,
    pb.Campaign.STATE_STOPPED: CampaignState.STOPPED,
    pb.Campaign.STATE_FAILED: CampaignState.FAILED,
    pb.Campaign.STATE_MANUAL: CampaignState.MANUAL,
}
_ROUND_STATES = {
    pb.Round.STATE_SELECTED: RoundState.SELECTED,
    pb.Round.STATE_LABELING: RoundState.LABELING,
    pb.Round.STATE_COLLECTED: RoundState.COLLECTED,
    pb.Round.STATE_AGGREGATED: RoundState.AGGREGATED,
    pb.Round.STATE_STOPPED: RoundState.STOPPED,
}
_JOB_STATES = {
    pb.LabelingJob.STATE_INTENT: JobState.INTENT,
    pb.LabelingJob.STATE_CREATED: JobState.CREATED,
    pb.LabelingJob.STATE_IN_PROGRESS: JobState.IN_PROGRESS,
    pb.LabelingJob.STATE_STOPPING: JobState.STOPPING,
    pb.LabelingJob.STATE_COLLECTING: JobState.COLLECTING,
    pb.LabelingJob.STATE_SETTLED: JobState.SETTLED,
    pb.LabelingJob.STATE_REFUSED: JobState.REFUSED,
}
_CAMPAIGN_NUMBERS = {state: number for number, state in _CAMPAIGN_STATES.items()}
_ROUND_NUMBERS = {state: number for number, state in _ROUND_STATES.items()}
_JOB_NUMBERS = {state: number for number, state in _JOB_STATES.items()}
_SPEC_SCALARS = (
    "name",
    "other_label",
    "multi_label",
    "instructions",
    "budget_usd_micros",
    "price_per_page_usd_micros",
    "fee_per_page_usd_micros",
    "round_size",
    "group_size",
    "workers_per_image",
    "max_workers_per_image",
    "strategy",
    "method",
    "gold_fraction",
    "seed",
    "workteam_arn",
    "task_time_limit_seconds",
    "task_availability_seconds",
    "part_size",
)
_SPEC_LISTS = ("classes", "target_labels", "positive_example_uris", "negative_example_uris")
_STOP = ("max_rounds", "max_labels", "max_answers", "min_yield", "poor_rounds", "prove_recall", "confidence")


def stop_rule(message: pb.StopRule) -> StopRule:
    """The stop rule of a message."""
    return StopRule(**{name: getattr(message, name) for name in _STOP})


def stop_rule_message(record: StopRule) -> pb.StopRule:
    """The message of a stop rule."""
    return pb.StopRule(**{name: getattr(record, name) for name in _STOP})


def spec(message: pb.CampaignSpec) -> CampaignSpec:
    """What a campaign is to do, as it was sent; `campaigns.checked` puts in the defaults."""
    fields: dict[str, Any] = {name: getattr(message, name) for name in _SPEC_SCALARS}
    fields |= {name: tuple(getattr(message, name)) for name in _SPEC_LISTS}
    control = message.control_fraction if message.HasField("control_fraction") else CONTROL_FRACTION
    return CampaignSpec(**fields, stop=stop_rule(message.stop), control_fraction=control)


def spec_message(record: CampaignSpec) -> pb.CampaignSpec:
    """The inverse of `spec`."""
    return pb.CampaignSpec(
        **{name: getattr(record, name) for name in (*_SPEC_SCALARS, *_SPEC_LISTS)},
        stop=stop_rule_message(record.stop),
        control_fraction=record.control_fraction,
    )


def campaign_message(record: Campaign) -> pb.Campaign:
    """A campaign as it is."""
    return pb.Campaign(
        campaign_id=record.campaign_id,
        spec=spec_message(record.spec),
        state=_CAMPAIGN_NUMBERS[record.state],
        message=record.message,
        rounds=record.rounds,
        images=record.images,
        labeled=record.labeled,
        answers=record.answers,
        targets_found=record.targets_found,
        money=pb.Money(
            budget_usd_micros=record.money.budget,
            reserved_usd_micros=record.money.reserved,
            spent_usd_micros=record.money.spent,
        ),
        create_time=timestamp(record.created_at),
        update_time=timestamp(record.updated_at),
        version=record.version,
    )


def campaign(message: pb.Campaign) -> Campaign:
    """The inverse of `campaign_message`."""
    money = message.money
    return Campaign(
        campaign_id=message.campaign_id,
        spec=spec(message.spec),
        state=_CAMPAIGN_STATES[message.state],
        created_at=moment(message.create_time),
        updated_at=moment(message.update_time),
        message=message.message,
        rounds=message.rounds,
        images=message.images,
        labeled=message.labeled,
        answers=message.answers,
        targets_found=message.targets_found,
        money=Money(money.budget_usd_micros, money.reserved_usd_micros, money.spent_usd_micros),
        version=message.version,
    )


def round_message(record: Round) -> pb.Round:
    """A round as it is, with the picks that it carries."""
    return pb.Round(
        round_id=record.round_id,
        campaign_id=record.campaign_id,
        number=record.number,
        state=_ROUND_NUMBERS[record.state],
        strategy=record.strategy,
        explanation=record.explanation,
        images=record.images,
        answers=record.answers,
        targets_found=record.targets_found,
        cost_usd_micros=record.cost,
        picks=[_pick_message(pick) for pick in record.picks],
        create_time=timestamp(record.created_at),
        control_targets=record.control_targets,
        control_images=record.control_images,
        warnings=record.warnings,
        planned_images=record.planned,
        draws=[pb.Draw(part=d.part, found_before=d.found_before, pool_sizes=dict(d.pools)) for d in record.draws],
    )


def round_of(message: pb.Round) -> Round:
    """The inverse of `round_message`."""
    return Round(
        round_id=message.round_id,
        campaign_id=message.campaign_id,
        number=message.number,
        state=_ROUND_STATES[message.state],
        created_at=moment(message.create_time),
        strategy=message.strategy,
        explanation=message.explanation,
        images=message.images,
        answers=message.answers,
        targets_found=message.targets_found,
        cost=message.cost_usd_micros,
        control_images=message.control_images,
        control_targets=message.control_targets,
        warnings=tuple(message.warnings),
        picks=tuple(_pick(pick) for pick in message.picks),
        planned=message.planned_images,
        draws=tuple(Draw(d.part, d.found_before, tuple(sorted(d.pool_sizes.items()))) for d in message.draws),
    )


def _pick_message(record: Pick) -> pb.Pick:
    return pb.Pick(
        image_id=record.image_id,
        rank=record.rank,
        score=record.score,
        reason=record.reason,
        arm=record.arm,
        inclusion_probability=record.inclusion_probability,
        pool_size=record.pool_size,
        uris=record.uris,
        part=record.part,
        stratum=record.stratum,
    )


def _pick(message: pb.Pick) -> Pick:
    return Pick(
        image_id=message.image_id,
        rank=message.rank,
        score=message.score,
        reason=message.reason,
        arm=message.arm,
        inclusion_probability=message.inclusion_probability,
        pool_size=message.pool_size,
        uris=tuple(message.uris),
        part=message.part,
        stratum=message.stratum,
    )


def quote_message(record: Quote, money: Money, coming: Forecast | None) -> pb.QuoteRoundResponse:
    """What a round will cost, beside what is left and what is still to come."""
    return pb.QuoteRoundResponse(
        images=record.images,
        pages=record.pages,
        min_answers=record.min_answers,
        expected_answers=record.expected_answers,
        max_answers=record.max_answers,
        min_cost_usd_micros=record.min_cost,
        expected_cost_usd_micros=record.expected_cost,
        max_cost_usd_micros=record.max_cost,
        available_usd_micros=money.available,
        within_budget=record.max_cost <= money.available,
        forecast=None if coming is None else proofs.forecast_message(coming),
    )


def quote(message: pb.QuoteRoundResponse) -> tuple[Quote, int, Forecast | None]:
    """The quote, what is left in the budget in millionths of a US dollar, and what is still to come."""
    record = Quote(
        images=message.images,
        pages=message.pages,
        min_answers=message.min_answers,
        expected_answers=message.expected_answers,
        max_answers=message.max_answers,
        min_cost=message.min_cost_usd_micros,
        expected_cost=message.expected_cost_usd_micros,
        max_cost=message.max_cost_usd_micros,
    )
    coming = proofs.forecast(message.forecast) if message.HasField("forecast") else None
    return record, message.available_usd_micros, coming


def collected_message(record: RoundCollected) -> pb.CollectRoundResponse:
    """What reading a round's answers brought."""
    return pb.CollectRoundResponse(
        round=round_message(record.round),
        new_answers=record.new_answers,
        failed_images=record.failed_images,
        quarantined=[quarantined_message(entry) for entry in record.quarantined],
    )


def collected(message: pb.CollectRoundResponse) -> RoundCollected:
    """The inverse of `collected_message`."""
    entries = tuple(quarantined(entry) for entry in message.quarantined)
    return RoundCollected(round_of(message.round), message.new_answers, message.failed_images, entries)


def aggregated_message(record: Aggregated) -> pb.AggregateRoundResponse:
    """What came of a round."""
    return pb.AggregateRoundResponse(
        round=round_message(record.round),
        method=record.method,
        certain=record.certain,
        need_answers=record.need_answers,
        warnings=record.warnings,
    )


def aggregated(message: pb.AggregateRoundResponse) -> Aggregated:
    """The inverse of `aggregated_message`."""
    return Aggregated(
        round_of(message.round), message.method, message.certain, message.need_answers, tuple(message.warnings)
    )


def job_message(record: LabelingJob, work_url: str) -> pb.LabelingJob:
    """A labeling job as it is."""
    return pb.LabelingJob(
        job_name=record.job_name,
        round_id=record.round_id,
        campaign_id=record.campaign_id,
        state=_JOB_NUMBERS[record.state],
        message=record.message,
        images=record.images,
        pages=record.pages,
        workers_per_page=record.workers_per_page,
        pages_labeled=record.pages_labeled,
        pages_failed=record.pages_failed,
        answers=record.answers,
        reserved_usd_micros=record.reserved,
        cost_usd_micros=record.cost,
        work_url=work_url,
        create_time=timestamp(record.created_at),
    )


def job_report(message: pb.LabelingJob) -> JobReport:
    """The job of a message."""
    return JobReport(
        job_name=message.job_name,
        round_id=message.round_id,
        campaign_id=message.campaign_id,
        state=_JOB_STATES[message.state],
        message=message.message,
        images=message.images,
        pages=message.pages,
        workers_per_page=message.workers_per_page,
        pages_labeled=message.pages_labeled,
        pages_failed=message.pages_failed,
        answers=message.answers,
        reserved=message.reserved_usd_micros,
        cost=message.cost_usd_micros,
        work_url=message.work_url,
        created_at=moment(message.create_time),
    )
