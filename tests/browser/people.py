# SPDX-License-Identifier: GPL-3.0-or-later
"""A labeling service with one job, and a person in a browser window at its invite link."""

from __future__ import annotations

import io
import json
import re
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import gandt_labeling
from botocore.config import Config
from gandt_labeling.bootstrap import bootstrap
from gandt_labeling.settings import Settings
from PIL import Image

from gandt.runtime.server import ServerThread

TEMPLATE = Path(gandt_labeling.__file__).parent / "templates" / "grid.liquid.html"
LAMBDA = "arn:aws:lambda:local-1:000000000000:function:gandt-{}-LabelingFunction"
TILES = 6
WAIT = 15_000  # ms; a loaded machine is slow, a right page is not


@dataclass
class Labeling:
    """A running service with one job; `stop` and `start` are its restart, at the same address."""

    data_dir: Path
    job: str = "party"
    settings: dict[str, Any] = field(default_factory=dict)
    url: str = ""
    thread: ServerThread | None = None

    def start(self) -> None:
        port = urlsplit(self.url).port or 0
        settings = Settings(port=port, metrics_port=None, data_dir=self.data_dir, drain_seconds=1, **self.settings)
        self.thread = ServerThread([bootstrap(settings)], settings)
        self.url = self.thread.start()["labeling"].service

    def stop(self) -> None:
        if self.thread is not None:
            self.thread.stop()
            self.thread = None

    @property
    def sagemaker(self) -> Any:
        return _client("sagemaker", self.url)

    @property
    def s3(self) -> Any:
        return _client("s3", self.url + "/s3")

    def operator(self, method: str, path: str, body: Any = None) -> Any:
        """A call with the operator's token."""
        token = (self.data_dir / "labeling.token").read_text()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:
            return json.loads(reply.read() or b"null")

    def invite(self, name: str = "") -> str:
        return str(self.operator("POST", "/api/invites", {"name": name})["invite"])

    def manifest(self) -> list[dict[str, Any]]:
        key = f"out/{self.job}/manifests/output/output.manifest"
        data = self.s3.get_object(Bucket="gandt", Key=key)["Body"].read()
        return [json.loads(line) for line in data.splitlines()]

    def wait_for(self, state: str) -> None:
        deadline = time.monotonic() + 30
        while self.sagemaker.describe_labeling_job(LabelingJobName=self.job)["LabelingJobStatus"] != state:
            assert time.monotonic() < deadline, f"the job never was {state}"
            time.sleep(0.05)

    def create(
        self,
        pages: int = 1,
        tiles: int = TILES,
        template: str = "",
        multi: bool = True,
        slots: int = 1,
        names: tuple[str, ...] = ("cat", "dog"),
        tags: dict[str, str] | None = None,
        **first_tile: Any,
    ) -> None:
        put = self.s3.put_object
        lines = []
        for page in range(pages):
            group: list[dict[str, Any]] = []
            for tile in range(tiles):
                index = page * tiles + tile
                image = io.BytesIO()
                Image.new("RGB", (64, 48), (40 * tile % 256, (200 - 30 * tile) % 256, 120)).save(image, "PNG")
                put(Bucket="gandt", Key=f"photos/{index}.png", Body=image.getvalue())
                group.append({"id": f"img-{index}", "source-ref": f"s3://gandt/photos/{index}.png", "index": index})
            group[0] |= {
                "event_names": list(names),
                "other_category_label": "Other",
                "multi_label": multi,
                **first_tile,
            }
            lines.append(json.dumps({"source": json.dumps(group), "gandt-task": f"t-{page}"}))
        put(Bucket="gandt", Key="in/input.manifest", Body="\n".join(lines).encode())
        put(Bucket="gandt", Key="in/page.html", Body=(template or TEMPLATE.read_text()).encode())
        self.sagemaker.create_labeling_job(
            LabelingJobName=self.job,
            LabelAttributeName="labels",
            InputConfig={"DataSource": {"S3DataSource": {"ManifestS3Uri": "s3://gandt/in/input.manifest"}}},
            OutputConfig={"S3OutputPath": "s3://gandt/out"},
            RoleArn="arn:aws:iam::000000000000:role/gandt",
            Tags=[{"Key": key, "Value": value} for key, value in (tags or {}).items()],
            HumanTaskConfig={
                "WorkteamArn": "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
                "UiConfig": {"UiTemplateS3Uri": "s3://gandt/in/page.html"},
                "PreHumanTaskLambdaArn": LAMBDA.format("pre"),
                "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": LAMBDA.format("post")},
                "TaskTitle": "Which animals do these photos show?",
                "TaskDescription": "Pick every animal that fits",
                "NumberOfHumanWorkersPerDataObject": slots,
                "TaskTimeLimitInSeconds": 900,
            },
        )
        self.wait_for("InProgress")


@dataclass
class Person:
    """One browser window at the invite link, and everything it asked for."""

    page: Any
    labeling: Labeling
    origins: set[str] = field(default_factory=set)
    paths: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def open(self, path: str, state: str = "working") -> None:
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", lambda line: self.problems.append(line.text) if line.type == "error" else None)
        self.page.goto(self.labeling.url + path)
        if state:
            self.wait_for(state)

    def _asked(self, request: Any) -> None:
        place = urlsplit(request.url)
        self.origins.add(place.netloc)
        self.paths.append(f"{request.method} {place.path}")

    def wait_for(self, state: str) -> None:
        self.page.wait_for_selector(f"body[data-state={state}]", timeout=WAIT)

    @property
    def frame(self) -> Any:
        return self.page.frame_locator("#frame")

    def pick(self, tile: int, label: str) -> None:
        self.frame.locator("[data-tile], .tile").nth(tile).get_by_role("button", name=re.compile(label)).click()

    def submit(self) -> None:
        self.frame.get_by_role("button", name="Submit").click()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def _client(name: str, url: str) -> Any:
    config = Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 1})
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any"}
    connect: Any = boto3.client  # the stubs know each service by its literal name only
    return connect(name, endpoint_url=url, region_name="local-1", config=config, **keys)
