# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that is full or read-only while a campaign runs: those who watch are told, and it goes on with space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gandt_jobcontroller.service.reconcile import is_passing
from gandt_jobcontroller.service.troubles import EVERY_CAMPAIGN, Troubles

from gandt.domain.disk import FULL, READ_ONLY, disk_trouble
from gandt.domain.errors import PermissionDenied, WrongState
from gandt.domain.labeling.campaigns import CampaignState
from tests.unit.jobcontroller.world import World, spec

FULL_DISK = disk_trouble("the labeling database /p/.gandt/labeling.db", FULL, "the disk is full")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.add_images(10)
    made.controller.campaigns.create(spec(), "", manual=False)
    yield made
    made.store.close()


def try_for(world: World, seconds: int) -> None:
    for _ in range(seconds):
        world.controller.loop.run_once()
        world.clock.advance(1)


def set_read_only(world: World, on: bool) -> None:
    """Every write of the one connection fails as on a read-only disk."""
    with world.store.read() as connection:
        connection.exec_driver_sql(f"PRAGMA query_only={'ON' if on else 'OFF'}")


def test_who_watches_is_told_after_a_while_and_the_campaign_goes_on_with_space(world: World) -> None:
    world.backend.faults = [FULL_DISK] * 20
    watched = world.controller.campaigns.watch("")
    next(watched)
    try_for(world, 4)
    assert world.controller.campaigns.get("").message == f"waiting: {FULL_DISK}"
    try_for(world, 10)
    with pytest.raises(WrongState, match=r"labeling.db cannot be written: the disk is full; free some space") as caught:
        list(watched)
    assert caught.value.reason == FULL
    campaign = world.controller.campaigns.get("")
    assert (campaign.state, campaign.money.spent) == (CampaignState.RUNNING, 0)
    again = world.controller.campaigns.watch("")  # somebody has made space, and watches again
    world.backend.faults = []
    next(again)
    world.run()
    changes = list(again)
    assert changes[-1][0].state is CampaignState.COMPLETED
    assert changes[-1][0].labeled == 10
    assert len(world.backend.jobs) == 1


def test_a_store_that_takes_not_even_the_message_is_told_from_memory(world: World) -> None:
    watched = world.controller.campaigns.watch("")
    next(watched)
    set_read_only(world, True)
    try_for(world, 12)
    campaign = world.controller.campaigns.get("")
    assert campaign.state is CampaignState.RUNNING
    assert campaign.message.startswith("waiting: the job store")
    assert world.store.get_campaign(campaign.campaign_id).message == ""
    with pytest.raises(WrongState) as caught:
        list(watched)
    assert caught.value.reason == READ_ONLY
    set_read_only(world, False)
    world.run()
    done = world.controller.campaigns.get("")
    assert (done.state, done.labeled, done.message) == (CampaignState.COMPLETED, 10, "no image is left to select")


def test_a_full_disk_is_logged_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.backend.faults = [FULL_DISK] * 20
    try_for(world, 30)
    assert [each.message for each in caplog.records if "waits" in each.message] == [
        f"campaign {world.controller.campaigns.get('').campaign_id} waits: {FULL_DISK}"
    ]


def test_a_read_only_object_store_is_waited_for() -> None:
    assert is_passing(PermissionDenied("s3://gandt is on a read-only disk", reason=READ_ONLY))
    assert not is_passing(PermissionDenied("no", reason="ACCESS_DENIED"))


def test_a_trouble_lasts_only_while_tries_fail() -> None:
    troubles = Troubles()
    assert troubles.note("c", FULL_DISK, 0.0)
    assert not troubles.note("c", FULL_DISK, 4.0)
    assert troubles.lasting("c", 0.0) is None
    assert not troubles.note("c", FULL_DISK, 6.0)
    assert troubles.lasting("c", 0.0) is FULL_DISK
    assert troubles.lasting("c", 3.0) is None  # watched for too short a time
    assert troubles.of("other") is None
    troubles.note(EVERY_CAMPAIGN, FULL_DISK, 6.0)
    assert troubles.of("other") is FULL_DISK
    assert troubles.clear("c")
    assert not troubles.clear("c")
