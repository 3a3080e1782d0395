# SPDX-License-Identifier: GPL-3.0-or-later
"""Use cases of campaigns: create, pause, resume, change the limits, stop, and watch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from gandt.domain.errors import InvalidInput, WrongState
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, CampaignState, StopRule, checked
from gandt.domain.labeling.rounds import Round
from gandt.domain.paging import number_of, page_size, token_after
from gandt.domain.selection.proof import Proof
from gandt.ports.clock import NO_DEADLINE, Deadline
from gandt_jobcontroller.service.admission import admit
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.proving import prove

WATCH_SECONDS = 0.2  # between two looks at a version


class Campaigns:
    """Campaigns as callers see them.

    Args:
        wake: tells the loop that something has changed.
    """

    def __init__(self, parts: Parts, wake: Callable[[], None]) -> None:
        self._parts = parts
        self._wake = wake

    def create(self, spec: CampaignSpec, request_id: str, manual: bool) -> Campaign:
        """Store a campaign and let it begin.

        Raises:
            InvalidInput: the spec can never work; see also `admit`.
            AlreadyExists: the request id made another one.
        """
        spec = checked(spec)
        advice = admit(self._parts, spec)
        now = self._parts.clock.now()
        new = Campaign(
            campaign_id=self._parts.new_id("c"),
            spec=spec,
            state=CampaignState.MANUAL if manual else CampaignState.RUNNING,
            created_at=now,
            updated_at=now,
            message=advice,
        )
        made = self._parts.store.create_campaign(new, request_id)
        self._wake()
        return made

    def get(self, campaign_id: str) -> Campaign:
        """A campaign; "" means the newest."""
        return self._shown(self._parts.store.get_campaign(campaign_id))

    def get_with_proof(self, campaign_id: str) -> tuple[Campaign, Proof | None]:
        """A campaign, and what its control draws prove so far; None when it looks for nothing."""
        campaign = self.get(campaign_id)
        return campaign, prove(self._parts, campaign)

    def list_campaigns(self, size: int, token: str) -> tuple[list[Campaign], str]:
        """A page of campaigns, newest first, and the next token."""
        limit = page_size(size, 100, 1000)
        rows = self._parts.store.list_campaigns(number_of(token, "campaigns"), limit)
        after = token_after("campaigns", rows[-1][0]) if len(rows) == limit else ""
        return [campaign for _, campaign in rows], after

    def update(
        self,
        campaign_id: str,
        paused: bool | None,
        budget: int | None,
        expected_version: int = 0,
        stop: StopRule | None = None,
    ) -> Campaign:
        """Pause, resume, or change the limits; what is None stays.

        A completed or stopped campaign of which a limit is raised goes on with the labels and the money that it has.

        Raises:
            Conflict: the campaign has another version than the expected one.
            WrongState: it is ending or over.
            InvalidInput: the budget is below what is spent and held, or the stop rule can never work.
        """
        back = self._parts.store.resume_state(campaign_id)

        def change(now: Campaign) -> Campaign:
            changed = now if budget is None else _with_budget(now, budget)
            changed = changed if stop is None else replace(changed, spec=checked(replace(changed.spec, stop=stop)))
            changed = _reopened(now, changed, back)
            return changed if paused is None else _paused(changed, paused, back)

        changed = self._parts.store.change_campaign(campaign_id, change, self._parts.clock.now(), expected_version)
        self._wake()
        return changed

    def stop(self, campaign_id: str) -> Campaign:
        """Begin a campaign's end; one that is over stays as it is."""

        def stopping(now: Campaign) -> Campaign:
            over = now.state.is_final
            return now if over else replace(now, state=CampaignState.STOPPING, message="stopping on request")

        changed = self._parts.store.change_campaign(campaign_id, stopping, self._parts.clock.now())
        self._wake()
        return changed

    def watch(self, campaign_id: str, deadline: Deadline = NO_DEADLINE) -> Iterator[tuple[Campaign, Round | None]]:
        """The campaign and its newest round now and after each change, until it is over.

        Raises:
            GandtError: a disk is full or read-only, and tries have failed for a while: somebody has to act. The
                campaign itself goes on as soon as it can.
        """
        store, troubles, clock, seen = self._parts.store, self._parts.troubles, self._parts.clock, 0
        campaign_id = store.get_campaign(campaign_id).campaign_id
        since = clock.monotonic()
        while True:
            deadline.check()
            trouble = troubles.lasting(campaign_id, since)
            if trouble is not None:
                raise trouble
            if store.campaign_version(campaign_id) != seen:
                campaign = store.get_campaign(campaign_id)
                seen = campaign.version
                yield self._shown(campaign), store.newest_round(campaign_id)
                if campaign.state.is_final:
                    return
            clock.sleep(WATCH_SECONDS)

    def _shown(self, campaign: Campaign) -> Campaign:
        """With the disk trouble that it waits for as its message, also where the store could not take that."""
        trouble = None if campaign.state.is_final else self._parts.troubles.of(campaign.campaign_id)
        return campaign if trouble is None else replace(campaign, message=f"waiting: {trouble}")


def _with_budget(now: Campaign, budget: int) -> Campaign:
    least = now.money.spent + now.money.reserved
    if budget < least:
        raise InvalidInput(
            f"the budget of campaign {now.spec.name} cannot be {budget} millionths of a dollar, "
            f"{least} are spent or held",
            field="budget_usd_micros",
            reason="BUDGET_BELOW_SPENT",
            fix="stop running labeling jobs first, or give more",
        )
    return replace(now, money=replace(now.money, budget=budget))


def _reopened(before: Campaign, after: Campaign, back: CampaignState) -> Campaign:
    """Running again, where it had ended and a limit is raised. Failed ones are resumed when the cause is mended."""
    raised = after.money.budget > before.money.budget or after.spec.stop.allows_more_than(before.spec.stop)
    if not raised or before.state not in (CampaignState.COMPLETED, CampaignState.STOPPED):
        return after
    return replace(after, state=back, message="")


def _paused(now: Campaign, paused: bool, back: CampaignState) -> Campaign:
    may_pause = (CampaignState.RUNNING, CampaignState.MANUAL)
    if paused and now.state in may_pause:
        return replace(now, state=CampaignState.PAUSED, message="paused on request")
    if not paused and now.state is CampaignState.PAUSED:
        return replace(now, state=back, message="")
    if not paused and now.state is CampaignState.FAILED:  # somebody has mended the cause
        return replace(now, state=CampaignState.RUNNING, message="")
    if now.state is CampaignState.PAUSED or (not paused and now.state in may_pause):
        return now
    raise WrongState(
        f"campaign {now.spec.name} is {now.state} and cannot be {'paused' if paused else 'resumed'}",
        kind="campaign",
        id=now.campaign_id,
        state=now.state.value,
        reason="CAMPAIGN_OVER",
        fix="create a new campaign",
    )
