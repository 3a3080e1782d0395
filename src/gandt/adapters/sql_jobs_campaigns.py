# SPDX-License-Identifier: GPL-3.0-or-later
"""Rows of campaigns. Counts and money are summed when read: there is no second copy that could differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, select, update

from gandt.adapters.sql_jobs_engine import SqlStore, moment, to_micros
from gandt.adapters.sql_jobs_schema import answers, campaigns, images, labels, ledger, rounds
from gandt.domain.datasets import LabelStatus
from gandt.domain.errors import AlreadyExists, Conflict, NotFound
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, CampaignState, StopRule
from gandt.domain.labeling.money import Money

SETTLE, RESERVE, RELEASE = "settle", "reserve", "release"
_TUPLES = ("classes", "target_labels", "positive_example_uris", "negative_example_uris")


def spec_to_json(spec: CampaignSpec) -> str:
    """The spec as text for its row."""
    return json.dumps(asdict(spec), ensure_ascii=False, sort_keys=True)


def spec_from_json(text: str) -> CampaignSpec:
    """The spec of a row."""
    fields: dict[str, Any] = json.loads(text)
    fields.update({name: tuple(fields[name]) for name in _TUPLES})
    fields["stop"] = StopRule(**fields["stop"])
    return CampaignSpec(**fields)


class CampaignRows(SqlStore):
    """Campaigns."""

    def create_campaign(self, campaign: Campaign, request_id: str) -> Campaign:
        """Store a campaign; the same request id returns the one that it made.

        Raises:
            AlreadyExists: the request id made a campaign with another spec.
        """
        spec = spec_to_json(campaign.spec)
        with self.write() as connection:
            if request_id:
                old = connection.execute(select(campaigns).where(campaigns.c.request_id == request_id)).first()
                if old is not None:
                    made = _campaign(connection, old)
                    if _without_limits(made.spec) != _without_limits(campaign.spec):
                        raise AlreadyExists(
                            f"request {request_id} made campaign {made.campaign_id} with another spec",
                            kind="campaign",
                            id=made.campaign_id,
                        )
                    return made
            connection.execute(
                campaigns.insert().values(
                    campaign_id=campaign.campaign_id,
                    request_id=request_id or None,
                    spec=spec,
                    budget=campaign.spec.budget_usd_micros,
                    state=campaign.state.value,
                    message=campaign.message,
                    created_at=to_micros(campaign.created_at),
                    updated_at=to_micros(campaign.updated_at),
                    version=1,
                )
            )
            return _campaign(connection, campaign_row(connection, campaign.campaign_id))

    def get_campaign(self, campaign_id: str) -> Campaign:
        """A campaign by id; "" means the newest.

        Raises:
            NotFound: there is none.
        """
        with self.read() as connection:
            return _campaign(connection, campaign_row(connection, campaign_id))

    def campaign_version(self, campaign_id: str) -> int:
        """Only the version, for those who wait for a change."""
        with self.read() as connection:
            return connection.scalar(select(campaigns.c.version).where(campaigns.c.campaign_id == campaign_id)) or 0

    def list_campaigns(self, before_number: int, limit: int) -> list[tuple[int, Campaign]]:
        """Campaigns with their serial numbers, newest first, below a number (0 means from the newest)."""
        query = select(campaigns).order_by(campaigns.c.number.desc()).limit(limit)
        if before_number:
            query = query.where(campaigns.c.number < before_number)
        with self.read() as connection:
            return [(row.number, _campaign(connection, row)) for row in connection.execute(query).all()]

    def open_campaigns(self) -> list[str]:
        """Ids of the campaigns that are not final, oldest first."""
        final = [state.value for state in CampaignState if state.is_final]
        query = select(campaigns.c.campaign_id).where(campaigns.c.state.not_in(final)).order_by(campaigns.c.number)
        with self.read() as connection:
            return list(connection.scalars(query))

    def change_campaign(
        self, campaign_id: str, change: Callable[[Campaign], Campaign], now: datetime, expected_version: int = 0
    ) -> Campaign:
        """Read, change and write a campaign's state, message, budget and stop rule in one transaction.

        Raises:
            Conflict: the campaign has another version than the expected one (0 is not checked).
        """
        with self.write() as connection:
            row = campaign_row(connection, campaign_id, lock=self.locks_rows)
            before = _campaign(connection, row)
            if expected_version and before.version != expected_version:
                raise Conflict(
                    f"campaign {campaign_id} has version {before.version}, not {expected_version}",
                    kind="campaign",
                    id=campaign_id,
                    fix="read it again",
                )
            after = change(before)
            if after == before:
                return before
            connection.execute(
                update(campaigns)
                .where(campaigns.c.campaign_id == before.campaign_id)
                .values(
                    state=after.state.value,
                    message=after.message,
                    budget=after.money.budget,
                    spec=spec_to_json(replace(before.spec, stop=after.spec.stop)),
                    resume_state=_resume_state(before, after, row.resume_state),
                )
            )
            touch(connection, before.campaign_id, now)
            return _campaign(connection, campaign_row(connection, campaign_id))

    def resume_state(self, campaign_id: str) -> CampaignState:
        """The state that a paused campaign goes back to."""
        with self.read() as connection:
            return CampaignState(campaign_row(connection, campaign_id).resume_state or CampaignState.RUNNING)


def _without_limits(spec: CampaignSpec) -> CampaignSpec:
    """What a campaign is to do; its limits may have been changed since."""
    return replace(spec, budget_usd_micros=0, stop=StopRule())


def _resume_state(before: Campaign, after: Campaign, known: str | None) -> str | None:
    """The state to go back to from a pause or an end: a campaign for single steps never goes on by itself."""
    leaves = after.state in (CampaignState.PAUSED, CampaignState.STOPPING)
    works = before.state in (CampaignState.RUNNING, CampaignState.MANUAL)
    return before.state.value if leaves and works else known


def touch(connection: Connection, campaign_id: str, now: datetime) -> None:
    """Give the campaign its next version, so that watchers look again."""
    here = campaigns.c.campaign_id == campaign_id
    connection.execute(update(campaigns).where(here).values(version=campaigns.c.version + 1, updated_at=to_micros(now)))


def read_money(connection: Connection, campaign_id: str, budget: int) -> Money:
    """The sums of a campaign's ledger."""
    closed = ledger.alias("closed")
    is_open = (
        ~select(closed.c.number)
        .where(closed.c.job_name == ledger.c.job_name, closed.c.entry.in_((SETTLE, RELEASE)))
        .exists()
    )
    sums = connection.execute(
        select(
            func.coalesce(func.sum(case((ledger.c.entry == SETTLE, ledger.c.amount), else_=0)), 0),
            func.coalesce(func.sum(case(((ledger.c.entry == RESERVE) & is_open, ledger.c.amount), else_=0)), 0),
        ).where(ledger.c.campaign_id == campaign_id)
    ).one()
    return Money(budget=budget, reserved=int(sums[1]), spent=int(sums[0]))


def campaign_row(connection: Connection, campaign_id: str, lock: bool = False) -> Row[Any]:
    """A campaign's row inside a transaction; "" means the newest.

    Raises:
        NotFound: there is none.
    """
    query = select(campaigns)
    if campaign_id:
        query = query.where(campaigns.c.campaign_id == campaign_id)
    else:
        query = query.order_by(campaigns.c.number.desc()).limit(1)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        what = f"there is no campaign {campaign_id}" if campaign_id else "there is no campaign yet"
        raise NotFound(what, kind="campaign", id=campaign_id, reason="NO_CAMPAIGN", fix="create one first")
    return row


def _campaign(connection: Connection, row: Row[Any]) -> Campaign:
    here = row.campaign_id
    made = labels.c.status != LabelStatus.UNLABELED.value
    counts = connection.execute(
        select(
            select(func.count()).select_from(rounds).where(rounds.c.campaign_id == here).scalar_subquery(),
            select(func.count()).select_from(images).scalar_subquery(),
            select(func.count()).select_from(labels).where(labels.c.campaign_id == here, made).scalar_subquery(),
            select(func.count()).select_from(answers).where(answers.c.campaign_id == here).scalar_subquery(),
            select(func.coalesce(func.sum(labels.c.is_target), 0))
            .where(labels.c.campaign_id == here)
            .scalar_subquery(),
        )
    ).one()
    return Campaign(
        campaign_id=here,
        spec=replace(spec_from_json(row.spec), budget_usd_micros=row.budget),
        state=CampaignState(row.state),
        message=row.message,
        created_at=moment(row.created_at),
        updated_at=moment(row.updated_at),
        rounds=counts[0],
        images=counts[1],
        labeled=counts[2],
        answers=counts[3],
        targets_found=int(counts[4]),
        money=read_money(connection, here, row.budget),
        version=row.version,
    )
