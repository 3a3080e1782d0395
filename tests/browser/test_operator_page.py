# SPDX-License-Identifier: GPL-3.0-or-later
"""The operator's page in a real browser: login, queue, campaigns, one-click reviews, people, invitations, the log."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from gandt_labeling.bootstrap import bootstrap
from gandt_labeling.settings import Settings

from gandt.domain.catalog import StoredLabel, WorkerRecord
from gandt.domain.labeling.campaigns import Campaign, CampaignSpec, CampaignState
from gandt.domain.labeling.money import Money
from gandt.domain.labeling.outcomes import GivenLabel, Imported
from gandt.domain.labeling.rounds import Round, RoundState
from gandt.runtime.server import ServerThread
from tests.browser.people import WAIT, Labeling
from tests.browser.test_axe import violations

pytestmark = pytest.mark.browser
NOW = datetime(2026, 11, 24, tzinfo=UTC)


class OneCampaign:
    """A job controller with one campaign; what it is told stays."""

    def __init__(self) -> None:
        spec = CampaignSpec(name="party", classes=("cat", "dog"), other_label="Other")
        money = Money(20_000_000, 1_000_000, 2_340_000)
        self.campaign = Campaign("c-1", spec, CampaignState.RUNNING, NOW, NOW, "labeling round 2", money=money)
        self.labels = [
            StoredLabel("i1", ("cat",), 0.9, "certain", uris=("s3://gandt/photos/0.png",)),
            StoredLabel("i2", ("dog",), 0.6, "uncertain", 3, 2, uris=("s3://gandt/photos/1.png",)),
            StoredLabel("i3", (), 0.4, "tied", 2, 1, uris=("s3://gandt/<img src=x onerror=alert(1)>.png",)),
        ]
        self.reviews: list[tuple[str, tuple[str, ...], str]] = []

    def list_campaigns(self) -> Iterator[Campaign]:
        return iter([self.campaign])

    def get_campaign(self, campaign_id: str = "") -> Campaign:
        return self.campaign

    def list_rounds(self, campaign_id: str = "") -> Iterator[Round]:
        return iter(
            [Round("r-1", "c-1", 1, RoundState.AGGREGATED, NOW, "seeds", images=40, answers=120, cost=2_340_000)]
        )

    def list_labels(self, campaign_id: str = "") -> Iterator[StoredLabel]:
        return iter(self.labels)

    def list_workers(self, campaign_id: str = "") -> Iterator[WorkerRecord]:
        return iter([])

    def update_campaign(self, campaign_id: str, paused: bool | None = None) -> Campaign:
        state = CampaignState.PAUSED if paused else CampaignState.RUNNING
        self.campaign = replace(self.campaign, state=state)
        return self.campaign

    def review_labels(self, reviews: Sequence[GivenLabel], reviewer: str, campaign_id: str = "") -> Imported:
        self.reviews += [(each.image, each.labels, reviewer) for each in reviews]
        done = {each.image for each in reviews}
        self.labels = [label for label in self.labels if label.image_id not in done]
        return Imported(len(reviews), 0)


@pytest.fixture
def controller() -> OneCampaign:
    return OneCampaign()


@pytest.fixture
def operate(chromium: Any, tmp_path: Path, controller: OneCampaign) -> Iterator[Callable[[], tuple[Any, Labeling]]]:
    """The page, logged in, beside a service with one job."""
    settings = Settings(port=0, metrics_port=None, data_dir=tmp_path, drain_seconds=1)
    thread = ServerThread([bootstrap(settings, controller=lambda: controller)], settings)
    labeling = Labeling(tmp_path, url=thread.start()["labeling"].service)
    labeling.create(pages=2, tags={"gandt:pay-usd-micros": "250000"})
    context = chromium.new_context(viewport={"width": 1100, "height": 800})
    context.set_default_timeout(WAIT)
    page, problems, origins = context.new_page(), [], set()

    def opened() -> tuple[Any, Labeling]:
        page.on("request", lambda request: origins.add(urlsplit(request.url).netloc))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(labeling.url + "/operate")
        page.fill("#token", (tmp_path / "labeling.token").read_text())
        page.click("#login button")
        page.wait_for_selector("body[data-state=ready]")
        return page, labeling

    yield opened
    context.close()
    thread.stop()
    assert problems == []
    assert origins <= {urlsplit(labeling.url).netloc}


def test_the_queue_the_rounds_and_the_money(
    operate: Callable[[], tuple[Any, Labeling]], controller: OneCampaign
) -> None:
    page, labeling = operate()
    told = page.inner_text("#campaigns")
    for part in ("party", "running", "2.34 USD spent, 1.00 USD reserved, of 20.00 USD", "labeling round 2", "seeds"):
        assert part in told
    row = page.locator("#jobs tbody tr")
    assert row.inner_text().split("\t")[:5] == ["party", "InProgress", "2", "0", "0"]
    assert violations(page.main_frame) == []
    page.get_by_role("button", name="Pause party").last.click()
    row.get_by_text("InProgress, paused").wait_for()
    worker = labeling.operator("GET", "/api/operator/overview")
    assert worker["jobs"][0]["paused"] is True
    page.get_by_role("button", name="Pause party").click()  # the campaign
    page.get_by_text("paused", exact=True).wait_for()
    assert controller.campaign.state is CampaignState.PAUSED
    page.locator("#campaigns").get_by_role("button", name="Resume party").click()
    page.get_by_text("running", exact=True).wait_for()


def test_images_in_doubt_are_decided_with_one_click(
    operate: Callable[[], tuple[Any, Labeling]], controller: OneCampaign
) -> None:
    page, _ = operate()
    page.get_by_role("button", name="Review").click()
    cards = page.locator(".doubt")
    cards.nth(1).wait_for()
    assert page.inner_text("#review-note") == "2 in doubt, the most doubtful first."
    assert "<img src=x" in cards.first.inner_text(), "a file name is text"
    page.wait_for_function("() => [...document.querySelectorAll('.doubt img')].some(image => image.naturalWidth > 0)")
    assert violations(page.main_frame) == []
    cards.first.get_by_role("button", name="Other").click()
    page.wait_for_function("() => document.querySelectorAll('.doubt').length === 1")
    page.keyboard.press("Enter")  # the next one has the focus: its first choice
    page.wait_for_function("() => document.querySelectorAll('.doubt').length === 0")
    assert controller.reviews == [("i3", ("Other",), "operator"), ("i2", ("cat",), "operator")]
    assert page.inner_text("#review-note") == "Nothing is in doubt."
    page.get_by_role("button", name="Log").click()
    page.locator("#entries").get_by_text("i3").wait_for()


def test_people_are_invited_seen_paused_and_paid(operate: Callable[[], tuple[Any, Labeling]], chromium: Any) -> None:
    page, labeling = operate()
    page.get_by_role("button", name="People").click()
    page.fill("#name", "anna")
    page.get_by_role("button", name="Make a link").click()
    page.wait_for_function("() => document.querySelector('#link').textContent")
    link = page.inner_text("#link")
    assert re.match(rf"{labeling.url}/work\?invite=", link)
    context = chromium.new_context()
    anna = context.new_page()
    anna.goto(link)
    anna.wait_for_selector("body[data-state=working]", timeout=WAIT)
    frame = anna.frame_locator("#frame")
    for key in "121212":
        frame.locator("body").press(key)
        frame.locator("body").press("Space")
    frame.get_by_role("button", name="Submit").click()
    anna.wait_for_function("() => document.querySelector('#progress-text').textContent.startsWith('Page 2')")
    page.get_by_role("button", name="Work").click()
    page.get_by_role("button", name="People").click()
    row = page.locator("#workers tbody tr")
    row.get_by_text("0.25 USD").wait_for()
    assert violations(page.main_frame) == []
    with page.expect_download() as download:
        page.click("#payouts")
    assert Path(download.value.path()).read_text().splitlines()[1].endswith(",0.250000")
    row.get_by_role("button", name="Pause").click()
    row.get_by_text("paused: by the operator").wait_for()
    anna.click("#give-back")
    anna.get_by_text("Your work is paused").wait_for()
    context.close()


def test_a_wrong_token_opens_nothing(chromium: Any, labeling: Callable[..., Labeling]) -> None:
    made, context = labeling(), chromium.new_context()
    page = context.new_page()
    page.goto(made.url + "/operate")
    page.wait_for_selector("body[data-state=login]")
    assert violations(page.main_frame) == []
    page.fill("#token", "wrong")
    page.click("#login button")
    page.get_by_text("not the operator's token").wait_for()
    assert page.is_hidden("#work")
    context.close()


def test_every_view_fits_a_phone(operate: Callable[[], tuple[Any, Labeling]]) -> None:
    page, _ = operate()
    page.set_viewport_size({"width": 320, "height": 640})
    for view in ("work", "review", "people", "log"):
        page.click(f"#tabs [data-view={view}]")
        page.wait_for_selector(f"#{view}:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, view


def test_a_worker_cannot_write_into_the_operators_page(operate: Callable[[], tuple[Any, Labeling]]) -> None:
    """A reason for a pause and a label's name are text, in the table of people and in the log."""
    page, _ = operate()
    hostile = "<img src=x onerror=window.broken=1>"
    page.evaluate(
        """(hostile) => fetch('/api/invites', {method: 'POST', body: JSON.stringify({name: hostile})})
        .then(r => r.json())
        .then(b => fetch('/api/session', {method: 'POST', body: JSON.stringify({invite: b.invite})}))
        .then(r => r.json())
        .then(b => fetch(`/api/operator/workers/${b.worker}`,
            {method: 'POST', body: JSON.stringify({paused: true, reason: hostile})}))""",
        hostile,
    )
    for view in ("people", "log"):
        page.click(f"#tabs [data-view={view}]")
        page.wait_for_selector(f"#{view} >> text={hostile}")
    assert page.evaluate("window.broken") is None
