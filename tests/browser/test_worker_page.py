# SPDX-License-Identifier: GPL-3.0-or-later
"""A person labels in a real browser: from the invite link to the output manifest, from one origin only."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import gandt_labeling
import pytest
from botocore.config import Config
from gandt_labeling.bootstrap import bootstrap
from gandt_labeling.settings import Settings
from PIL import Image

from gandt.runtime.server import ServerThread

pytestmark = pytest.mark.browser

TEMPLATE = Path(gandt_labeling.__file__).parent / "templates" / "grid.liquid.html"
LAMBDA = "arn:aws:lambda:local-1:000000000000:function:gandt-{}-LabelingFunction"
TILES = 6
WAIT = 15_000  # ms; a loaded machine is slow, a right page is not


@dataclass
class Labeling:
    """A running service with one job."""

    url: str
    invite: str
    sagemaker: Any
    s3: Any
    job: str

    def manifest(self) -> list[dict[str, Any]]:
        key = f"out/{self.job}/manifests/output/output.manifest"
        data = self.s3.get_object(Bucket="gandt", Key=key)["Body"].read()
        return [json.loads(line) for line in data.splitlines()]

    def wait_for(self, state: str) -> None:
        deadline = time.monotonic() + 30
        while self.sagemaker.describe_labeling_job(LabelingJobName=self.job)["LabelingJobStatus"] != state:
            assert time.monotonic() < deadline, f"the job never was {state}"
            time.sleep(0.05)


@dataclass
class Person:
    """One browser window at the invite link, and everything it asked for."""

    page: Any
    labeling: Labeling
    origins: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def open(self, path: str) -> None:
        self.page.on("request", lambda request: self.origins.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        self.page.goto(self.labeling.url + path)
        self.wait_for("working")

    def wait_for(self, state: str) -> None:
        self.page.wait_for_selector(f"body[data-state={state}]", timeout=WAIT)

    @property
    def frame(self) -> Any:
        return self.page.frame_locator("#frame")

    def pick(self, tile: int, label: str) -> None:
        self.frame.locator("[data-tile], .tile").nth(tile).get_by_role("button", name=re.compile(label)).click()

    def submit(self) -> None:
        self.frame.get_by_role("button", name="Submit").click()


@pytest.fixture
def labeling(tmp_path: Path) -> Iterator[Callable[..., Labeling]]:
    """Starts a service with a job of some pages of six tiles."""
    threads: list[ServerThread] = []

    def start(pages: int = 1) -> Labeling:
        settings = Settings(port=0, metrics_port=None, data_dir=tmp_path, drain_seconds=1)
        threads.append(ServerThread([bootstrap(settings)], settings))
        url = threads[-1].start()["labeling"].service
        made = Labeling(url, _invite(url, tmp_path), _client("sagemaker", url), _client("s3", url + "/s3"), "party")
        _create(made, pages)
        return made

    yield start
    for thread in threads:
        thread.stop()


@pytest.fixture
def person(chromium: Any, labeling: Callable[..., Labeling]) -> Iterator[Callable[..., Person]]:
    """Opens a window on a fresh job: `person(pages=2)`."""
    contexts: list[Any] = []

    def visit(pages: int = 1) -> Person:
        contexts.append(chromium.new_context(viewport={"width": 1280, "height": 900}))
        contexts[-1].set_default_timeout(WAIT)
        made = labeling(pages)
        visitor = Person(contexts[-1].new_page(), made)
        visitor.open(f"/work?invite={made.invite}")
        return visitor

    yield visit
    for context in contexts:
        context.close()


def test_a_person_labels_two_pages_and_the_answers_land_in_the_manifest(person: Callable[..., Person]) -> None:
    anna = person(pages=2)
    for _ in range(2):
        for tile in range(TILES):
            anna.pick(tile, "cat" if tile % 2 == 0 else "dog")
        before = anna.page.get_attribute("#frame", "src")
        anna.submit()
        anna.page.wait_for_function(
            "before => document.body.dataset.state !== 'loading'"
            " && document.querySelector('#frame').getAttribute('src') !== before",
            arg=before,
        )
    anna.wait_for("done")
    assert "All done" in anna.page.inner_text("#notice")
    anna.labeling.wait_for("Completed")
    lines = anna.labeling.manifest()
    assert len(lines) == 2
    workers = set()
    for number, line in enumerate(lines):
        (response,) = line["labels"]["responses"]
        workers.add(response["workerId"])
        given = {key: json.loads(value) for key, value in response["annotation"].items() if key.startswith("labels-")}
        expected = {f"labels-{number * TILES + tile}": ["cat" if tile % 2 == 0 else "dog"] for tile in range(TILES)}
        assert given == expected
    assert len(workers) == 1
    assert anna.origins == {urlsplit(anna.labeling.url).netloc}
    assert anna.problems == []


def test_photos_show_and_the_frame_is_opaque(person: Callable[..., Person]) -> None:
    anna = person()
    frame = anna.page.frames[1]
    frame.wait_for_function(
        "() => [...document.images].slice(0, 4).every(image => image.naturalWidth > 0)", timeout=WAIT
    )
    assert frame.evaluate("window.origin") == "null"
    denied = "(() => { try { return parent.document.title } catch (error) { return error.name } })()"
    assert frame.evaluate(denied) == "SecurityError"
    assert "invite" not in anna.page.url, "the link does not stay in the address bar"


def test_a_reload_keeps_what_was_picked(person: Callable[..., Person]) -> None:
    anna = person()
    anna.pick(0, "dog")
    anna.pick(1, "Other")
    anna.page.wait_for_function("() => Object.keys(localStorage).some(key => key.startsWith('gandt.draft.'))")
    anna.page.reload()
    anna.wait_for("working")
    pressed = anna.frame.locator("button[aria-pressed=true]")
    pressed.nth(1).wait_for(timeout=WAIT)
    assert [re.sub(r"\W|\d", "", text) for text in pressed.all_inner_texts()] == ["dog", "Other"]


def test_a_lost_connection_loses_no_answer(person: Callable[..., Person]) -> None:
    anna = person()
    for tile in range(TILES):
        anna.pick(tile, "cat")
    anna.page.context.set_offline(True)
    anna.submit()
    anna.page.wait_for_selector("#banner:not([hidden])")
    assert "kept on this device" in anna.page.inner_text("#banner")
    anna.page.context.set_offline(False)
    anna.wait_for("done")
    anna.labeling.wait_for("Completed")
    assert len(anna.labeling.manifest()[0]["labels"]["responses"]) == 1


def test_a_closed_tab_sends_its_answer_when_it_comes_back(person: Callable[..., Person]) -> None:
    anna = person()
    for tile in range(TILES):
        anna.pick(tile, "cat")
    context = anna.page.context
    context.set_offline(True)
    anna.submit()
    anna.page.wait_for_selector("#banner:not([hidden])")
    anna.page.close()
    context.set_offline(False)
    page = context.new_page()
    page.goto(f"{anna.labeling.url}/work")
    page.wait_for_selector("body[data-state=done]", timeout=WAIT)
    anna.labeling.wait_for("Completed")
    assert "labels" in anna.labeling.manifest()[0]


def test_declining_asks_first_and_gives_the_next_page(person: Callable[..., Person]) -> None:
    anna = person(pages=2)
    first = anna.page.get_attribute("#frame", "src")
    anna.page.click("#decline")
    anna.page.click("dialog button[value=no]")
    assert anna.page.get_attribute("#frame", "src") == first
    anna.page.click("#decline")
    anna.page.click("dialog button[value=yes]")
    anna.page.wait_for_function(
        "first => (document.querySelector('#frame').getAttribute('src') || first) !== first", arg=first
    )


def test_a_wrong_invite_says_what_to_do(chromium: Any, labeling: Callable[..., Labeling]) -> None:
    made = labeling()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{made.url}/work?invite=wrong")
    page.wait_for_selector("body[data-state=stopped]", timeout=WAIT)
    assert "open your invite link again" in page.inner_text("#notice")
    context.close()


def _create(labeling: Labeling, pages: int) -> None:
    put = labeling.s3.put_object
    lines = []
    for page in range(pages):
        group: list[dict[str, Any]] = []
        for tile in range(TILES):
            index = page * TILES + tile
            image = io.BytesIO()
            Image.new("RGB", (64, 48), (40 * tile, 200 - 30 * tile, 120)).save(image, "PNG")
            put(Bucket="gandt", Key=f"photos/{index}.png", Body=image.getvalue())
            group.append({"id": f"img-{index}", "source-ref": f"s3://gandt/photos/{index}.png", "index": index})
        group[0] |= {"event_names": ["cat", "dog"], "other_category_label": "Other"}
        lines.append(json.dumps({"source": json.dumps(group), "gandt-task": f"t-{page}"}))
    put(Bucket="gandt", Key="in/input.manifest", Body="\n".join(lines).encode())
    put(Bucket="gandt", Key="in/page.html", Body=TEMPLATE.read_bytes())
    labeling.sagemaker.create_labeling_job(
        LabelingJobName=labeling.job,
        LabelAttributeName="labels",
        InputConfig={"DataSource": {"S3DataSource": {"ManifestS3Uri": "s3://gandt/in/input.manifest"}}},
        OutputConfig={"S3OutputPath": "s3://gandt/out"},
        RoleArn="arn:aws:iam::000000000000:role/gandt",
        HumanTaskConfig={
            "WorkteamArn": "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
            "UiConfig": {"UiTemplateS3Uri": "s3://gandt/in/page.html"},
            "PreHumanTaskLambdaArn": LAMBDA.format("pre"),
            "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": LAMBDA.format("post")},
            "TaskTitle": "Which animals do these photos show?",
            "TaskDescription": "Pick every animal that fits",
            "NumberOfHumanWorkersPerDataObject": 1,
            "TaskTimeLimitInSeconds": 900,
        },
    )
    labeling.wait_for("InProgress")


def _client(name: str, url: str) -> Any:
    config = Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 1})
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    connect: Any = boto3.client  # the stubs know each service by its literal name only
    return connect(name, endpoint_url=url, region_name="local-1", config=config, **keys)


def _invite(url: str, data_dir: Path) -> str:
    import urllib.request

    token = (data_dir / "labeling.token").read_text()
    request = urllib.request.Request(
        f"{url}/api/invites", b"{}", {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        invite: str = json.load(reply)["invite"]
    return invite
