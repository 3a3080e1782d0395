# SPDX-License-Identifier: GPL-3.0-or-later
"""The labeling service on a free loopback port, real boto3 clients, and a worker without a browser."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from gandt_labeling.bootstrap import bootstrap
from gandt_labeling.settings import Settings

from gandt.runtime.server import ServerThread

PAGE = """<crowd-form><input name="a">
{% for image in task.input.taskObject %}<img src="{{ image.source-ref | grant_read_access }}">{% endfor %}
</crowd-form>"""
LAMBDA = "arn:aws:lambda:local-1:000000000000:function:gandt-{}-LabelingFunction"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Worker:
    """A worker's HTTP session, as a program has it: cookie jar, no browser headers."""

    url: str
    cookie: str = ""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        try:
            sent = {"Content-Type": "application/json", **headers}
            if self.cookie:
                sent["Cookie"] = self.cookie
            data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            reply = Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()
        if "set-cookie" in reply.headers:
            self.cookie = reply.headers["set-cookie"].split(";")[0]
        return reply

    def next(self, job: str = "") -> Any:
        reply = self.call("POST", "/api/leases", {"job": job} if job else {})
        assert reply.status in (200, 204), reply.body
        return reply.json() if reply.status == 200 else None

    def first(self, job: str = "", seconds: float = 40.0) -> Any:
        """The next task, waiting until the job's pages are open."""
        deadline = time.monotonic() + seconds
        while (lease := self.next(job)) is None:
            assert time.monotonic() < deadline, "no page was opened"
            time.sleep(0.02)
        return lease


@dataclass
class Service:
    url: str
    data_dir: Path
    keys: tuple[str, str] = ("any", "any")
    worker_class = Worker
    stop: Callable[[], None] = lambda: None
    _clients: dict[str, Any] = field(default_factory=dict)

    def client(self, name: str, **options: Any) -> Any:
        connect: Any = boto3.client  # the stubs know each service by its literal name only
        return connect(
            name,
            endpoint_url=self.url + ("/s3" if name == "s3" else ""),
            region_name="local-1",
            aws_access_key_id=options.pop("key", self.keys[0]),
            aws_secret_access_key=options.pop("secret", self.keys[1]),
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}, proxies={}, **options),
        )

    @property
    def sagemaker(self) -> Any:
        return self._clients.setdefault("sagemaker", self.client("sagemaker"))

    @property
    def s3(self) -> Any:
        return self._clients.setdefault("s3", self.client("s3"))

    def invite(self, name: str = "") -> str:
        token = (self.data_dir / "labeling.token").read_text()
        reply = Worker(self.url).call("POST", "/api/invites", {"name": name}, Authorization=f"Bearer {token}")
        assert reply.status == 200, reply.body
        invite: str = reply.json()["invite"]
        return invite

    def worker(self, name: str = "") -> Worker:
        worker = Worker(self.url)
        assert worker.call("POST", "/api/session", {"invite": self.invite(name)}).status == 200
        return worker

    def upload(self, name: str, pages: int = 1, tiles: int = 2, template: str = "") -> None:
        lines = []
        for page in range(pages):
            group = [
                {
                    "id": f"{name}-{page}-{tile}",
                    "source-ref": f"s3://gandt/photos/{page * tiles + tile}.png",
                    "index": page * tiles + tile,
                }
                for tile in range(tiles)
            ]
            group[0] |= {"event_names": ["cat", "dog"], "other_category_label": "Other"}
            lines.append(json.dumps({"source": json.dumps(group), "gandt-task": f"{name}-t-{page}"}))
        self.s3.put_object(Bucket="gandt", Key=f"in/{name}.manifest", Body="\n".join(lines).encode())
        page_html = template or PAGE
        self.s3.put_object(Bucket="gandt", Key=f"in/{name}.html", Body=page_html.encode())

    def request(self, name: str, slots: int = 1, **changes: Any) -> dict[str, Any]:
        request: dict[str, Any] = {
            "LabelingJobName": name,
            "LabelAttributeName": "labels",
            "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": f"s3://gandt/in/{name}.manifest"}}},
            "OutputConfig": {"S3OutputPath": "s3://gandt/out"},
            "RoleArn": "arn:aws:iam::000000000000:role/gandt",
            "HumanTaskConfig": {
                "WorkteamArn": "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
                "UiConfig": {"UiTemplateS3Uri": f"s3://gandt/in/{name}.html"},
                "PreHumanTaskLambdaArn": LAMBDA.format("pre"),
                "TaskKeywords": ["images"],
                "TaskTitle": "What do these photos show?",
                "TaskDescription": "Pick every label that fits",
                "NumberOfHumanWorkersPerDataObject": slots,
                "TaskTimeLimitInSeconds": 900,
                "TaskAvailabilityLifetimeInSeconds": 864000,
                "MaxConcurrentTaskCount": 1000,
                "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": LAMBDA.format("post")},
            },
        }
        human = {key: changes.pop(key) for key in list(changes) if key in _HUMAN}
        request["HumanTaskConfig"] |= human
        return request | changes

    def wait_for(self, name: str, *states: str, seconds: float = 40.0) -> Any:
        """Poll Describe, as a controller does."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.sagemaker.describe_labeling_job(LabelingJobName=name)
            if found["LabelingJobStatus"] in states:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.02)


_HUMAN = {
    "WorkteamArn",
    "UiConfig",
    "TaskKeywords",
    "TaskTitle",
    "TaskDescription",
    "NumberOfHumanWorkersPerDataObject",
    "TaskTimeLimitInSeconds",
    "TaskAvailabilityLifetimeInSeconds",
    "MaxConcurrentTaskCount",
    "PublicWorkforceTaskPrice",
    "AnnotationConsolidationConfig",
}


@pytest.fixture(scope="session")
def start_labeling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Service]]:
    """Starts labeling services: `start_labeling(data_dir=..., access_key_id=...)`; all are stopped at the end."""
    running: list[ServerThread] = []

    def start(**values: Any) -> Service:
        values.setdefault("data_dir", tmp_path_factory.mktemp("labeling"))
        settings = Settings(port=0, metrics_port=None, drain_seconds=1, **values)
        thread = ServerThread([bootstrap(settings)], settings)
        address = thread.start()["labeling"].service
        running.append(thread)
        keys = (settings.access_key_id or "any", settings.secret_access_key.get_secret_value() or "any")
        return Service(address, settings.data_dir, keys, thread.stop)

    yield start
    for thread in running:
        thread.stop()


@pytest.fixture(scope="module")
def service(start_labeling: Callable[..., Service]) -> Service:
    """One open service on loopback for the tests of a module: no other module's jobs give work to its workers."""
    return start_labeling()


@pytest.fixture
def service_at() -> Callable[[str, Path], Service]:
    """The clients of a service that somebody else runs."""
    return Service
