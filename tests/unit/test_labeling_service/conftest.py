# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole labeling engine on a manual clock: memory objects, real SQL, Lambda handlers as functions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from gandt_labeling.lambdas.function_lambdas import FunctionLambdas
from gandt_labeling.service.engine import Engine
from gandt_labeling.service.jobs import Home, LabelingJobs
from gandt_labeling.service.leases import Lease, Leases
from gandt_labeling.service.parts import Limits, Parts
from gandt_labeling.service.ports import FrameRequest
from gandt_labeling.service.steady_clock import SteadyClock
from gandt_labeling.service.tokens import Tokens
from gandt_labeling.service.workers import Workers
from gandt_labeling.store.database import Database

from gandt.adapters.memory_clock import ManualClock, MemoryMeter
from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.errors import GandtError, InvalidInput
from gandt.ports.object_store import ObjectInfo

PRE = "arn:aws:lambda:local-1:000000000000:function:gandt-pre-LabelingFunction"
POST = "arn:aws:lambda:local-1:000000000000:function:gandt-post-LabelingFunction"


class PlainPages:
    """Pages that are their template; one that starts with `{% broken` has a syntax error."""

    def check(self, template: str) -> None:
        if template.startswith("{% broken"):
            raise InvalidInput("the template has a syntax error in line 1", field="UiTemplateS3Uri")

    def preview(self, template: str, task_input: Any) -> str:
        return template

    def render(self, request: FrameRequest, nonce: str) -> str:
        return request.template


class FaultyObjects(MemoryObjects):
    """Objects whose puts raise what `fault` gives for their URI."""

    fault: Callable[[str], GandtError | None] | None = None

    def put(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        error = self.fault(uri) if self.fault is not None else None
        if error is not None:
            raise error
        return super().put(uri, data, content_type)


@dataclass
class Bench:
    """One service; `restart` throws everything away but the database, the objects and the clock."""

    path: Path
    clock: ManualClock = field(default_factory=ManualClock)
    objects: FaultyObjects = field(default_factory=FaultyObjects)
    meter: MemoryMeter = field(default_factory=MemoryMeter)
    limits: Limits = field(default_factory=Limits)
    handlers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.handlers.setdefault(PRE, pre_handler)
        self.handlers.setdefault(POST, self.post_handler)
        self.post_calls: list[Any] = []
        self.start()

    def start(self) -> None:
        self.database = Database(f"sqlite:///{self.path}")
        self.time = SteadyClock(self.clock)
        tokens = Tokens(b"0123456789abcdef")
        parts = Parts(
            self.database,
            self.objects,
            FunctionLambdas(self.handlers),
            PlainPages(),
            self.time,
            self.meter,
            self.limits,
        )
        self.engine = Engine(parts)
        self.jobs = LabelingJobs(self.database, self.time, tokens, Home(), self.engine.wake, self.engine.disk_trouble)
        self.leases = Leases(self.database, self.time, self.meter, self.limits.grace_seconds, self.engine.wake)
        self.workers = Workers(self.database, self.time, tokens)

    def restart(self) -> None:
        self.database.close()
        self.start()

    def post_handler(self, event: dict[str, Any], _context: object) -> Any:
        """The original's consolidation: every answer, unchanged."""
        self.post_calls.append(event)
        attribute = event["labelAttributeName"]
        batch = json.loads(self.objects.get(event["payload"]["s3Uri"]))
        return [
            {
                "datasetObjectId": entry["datasetObjectId"],
                "consolidatedAnnotation": {
                    "content": {
                        attribute: {
                            "responses": [
                                {
                                    "workerId": answer["workerId"],
                                    "annotation": json.loads(answer["annotationData"]["content"]),
                                }
                                for answer in entry["annotations"]
                            ]
                        }
                    }
                },
            }
            for entry in batch
        ]

    def run(self) -> None:
        """Tick until nothing is left to do at this moment."""
        for _ in range(1000):
            if self.engine.tick() > 0:
                return
        raise AssertionError("the engine never comes to rest")

    def create(self, name: str = "job-1", pages: int = 1, slots: int = 1, tiles: int = 2, **changes: Any) -> str:
        """A job over `pages` manifest lines, started."""
        lines = [page_line(page, tiles) for page in range(pages)]
        self.objects.put(f"s3://gandt/in/{name}.manifest", "".join(f"{line}\n" for line in lines).encode())
        self.objects.put("s3://gandt/in/page.html", b"<crowd-form></crowd-form>")
        self.jobs.create(self.request(name, slots, **changes))
        self.run()
        return name

    def request(self, name: str = "job-1", slots: int = 1, **changes: Any) -> dict[str, Any]:
        return job_request(name, slots, **changes)

    def content(self, lease: Lease, label: str = "cat") -> dict[str, str]:
        return answer_of(lease, label)

    def worker(self) -> str:
        return self.workers.enter(self.workers.invite())[0]

    def lease(self, worker: str, job: str = "") -> Lease:
        lease = self.leases.next_task(worker, job)
        assert lease is not None
        return lease

    def answer(self, worker: str, label: str = "cat") -> Lease:
        lease = self.lease(worker)
        self.leases.submit(lease.lease_id, worker, answer_of(lease, label), 4.0)
        return lease

    def status(self, name: str = "job-1") -> str:
        return str(self.jobs.describe(name)["LabelingJobStatus"])

    def counters(self, name: str = "job-1") -> dict[str, int]:
        counters: dict[str, int] = self.jobs.describe(name)["LabelCounters"]
        return counters

    def manifest(self, name: str = "job-1") -> list[dict[str, Any]]:
        text = self.objects.get(f"s3://gandt/out/{name}/manifests/output/output.manifest").decode()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def files(self, name: str = "job-1") -> dict[str, Any]:
        """Every JSON file of the job by its path below the job's folder."""
        prefix = f"s3://gandt/out/{name}/"
        return {
            info.uri.removeprefix(prefix): self.objects.get(info.uri).decode() for info in self.objects.list(prefix)
        }


def pre_handler(event: dict[str, Any], _context: object) -> Any:
    return {"taskInput": {"taskObject": json.loads(event["dataObject"]["source"])}, "isHumanAnnotationRequired": True}


def page_line(page: int, tiles: int = 2) -> str:
    group = [
        {"id": f"img-{page * tiles + tile}", "source-ref": f"s3://gandt/photos/{page}-{tile}.png", "index": tile}
        for tile in range(tiles)
    ]
    return json.dumps({"source": json.dumps(group), "gandt-task": f"t-{page:06d}"})


def answer_of(lease: Lease, label: str) -> dict[str, str]:
    return {f"labels-{tile['index']}": json.dumps([label]) for tile in lease.task_input["taskObject"]}


def job_request(name: str, slots: int = 1, **changes: Any) -> dict[str, Any]:
    """A CreateLabelingJob request; `changes` go into HumanTaskConfig, or to the top when they belong there."""
    human = {
        "WorkteamArn": "arn:aws:sagemaker:local-1:000000000000:workteam/private-crowd/gandt",
        "UiConfig": {"UiTemplateS3Uri": "s3://gandt/in/page.html"},
        "PreHumanTaskLambdaArn": PRE,
        "TaskTitle": "What do these photos show?",
        "TaskDescription": "Pick every label that fits",
        "NumberOfHumanWorkersPerDataObject": slots,
        "TaskTimeLimitInSeconds": 600,
        "TaskAvailabilityLifetimeInSeconds": 3600,
        "AnnotationConsolidationConfig": {"AnnotationConsolidationLambdaArn": POST},
    }
    request = {
        "LabelingJobName": name,
        "LabelAttributeName": "labels",
        "InputConfig": {"DataSource": {"S3DataSource": {"ManifestS3Uri": f"s3://gandt/in/{name}.manifest"}}},
        "OutputConfig": {"S3OutputPath": "s3://gandt/out"},
        "RoleArn": "arn:aws:iam::000000000000:role/gandt",
    }
    top = {"StoppingConditions", "Tags", "OutputConfig", "LabelCategoryConfigS3Uri", "LabelAttributeName"}
    request.update({key: value for key, value in changes.items() if key in top})
    human.update({key: value for key, value in changes.items() if key not in top})
    request["HumanTaskConfig"] = {key: value for key, value in human.items() if value is not None}
    return request


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database file, to be copied: migrating takes longer than a test."""
    path = tmp_path_factory.mktemp("labeling") / "empty.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path


@pytest.fixture
def make_bench(tmp_path: Path, empty_database: Path) -> Iterator[Callable[..., Bench]]:
    """Benches with their own database; `make_bench(limits=...)`."""
    made: list[Bench] = []

    def make(**values: Any) -> Bench:
        path = tmp_path / f"labeling-{len(made)}.db"
        shutil.copy(empty_database, path)
        made.append(Bench(path, **values))
        return made[-1]

    yield make
    for bench in made:
        bench.database.close()


@pytest.fixture
def bench(make_bench: Callable[..., Bench]) -> Bench:
    return make_bench()
