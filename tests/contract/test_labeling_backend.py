# SPDX-License-Identifier: GPL-3.0-or-later
"""What every labeling backend obeys: the one in memory, and the SageMaker API as our labeling service speaks it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gandt.adapters.local_files import LocalFiles
from gandt.adapters.memory_labeling import MemoryLabeling
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.sagemaker import SageMakerJobs, sagemaker_client
from gandt.domain.errors import AlreadyExists
from gandt.domain.labeling.job_output import read_job
from gandt.domain.labeling.jobs import BackendState, BackendStatus, JobRequest
from gandt.domain.labeling.manifest import Question, Tile, prepare_manifest
from gandt.ports.labeling_backend import LabelingBackend
from gandt.ports.object_store import ObjectStore
from gandt.runtime.server import ServerThread
from tests.unit.jobcontroller.world import PLACES


@dataclass
class Place:
    """A backend and the store that it shares with us."""

    backend: LabelingBackend
    objects: ObjectStore

    def until(self, job_name: str, *states: BackendState) -> BackendStatus:
        """Wait for one of some states."""
        deadline = time.monotonic() + 60
        while (status := self.backend.describe(job_name)) is None or status.state not in states:
            assert time.monotonic() < deadline, f"{job_name} is still {status}"
        return status


@pytest.fixture(params=["memory", "labeling service"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "memory":
        objects = MemoryObjects()
        yield Place(MemoryLabeling(objects), objects)
        return
    from gandt_labeling.bootstrap import bootstrap
    from gandt_labeling.settings import Settings

    settings = Settings(port=0, metrics_port=None, data_dir=tmp_path, batch_seconds=0.1)
    with ServerThread(bootstrap(settings), settings) as server:
        client = sagemaker_client("local-1", server.addresses["labeling"].service, "any", "any")
        yield Place(SageMakerJobs(lambda: client), LocalFiles(tmp_path / "objects"))
        client.close()


@pytest.fixture
def request_(place: Place) -> JobRequest:
    tiles = [Tile(f"s3://gandt/photos/{n}.jpg", f"image-{n}") for n in range(4)]
    manifest = prepare_manifest(tiles, Question(("cat", "dog"), ""), group_size=2)
    place.objects.put("s3://gandt/manifests/input.manifest", manifest.data)
    place.objects.put("s3://gandt/templates/page.liquid.html", b"<crowd-form><input name='a'></crowd-form>")
    return JobRequest(
        job_name="gt-pets-r1-3f9c2a7b10de",
        manifest_uri="s3://gandt/manifests/input.manifest",
        output_uri="s3://gandt/output/c-1/r1",
        template_uri="s3://gandt/templates/page.liquid.html",
        role_arn=PLACES.role_arn,
        workteam_arn=PLACES.workteam_arn,
        pre_lambda_arn=PLACES.pre_lambda_arn,
        post_lambda_arn=PLACES.post_lambda_arn,
        title="Label images: cat, dog",
        description="Choose a label for each image",
        workers=3,
        time_limit_seconds=900,
        availability_seconds=864_000,
        max_objects=2,
        tags={"gandt:campaign": "c-1", "gandt:round": "1", "gandt:spec-sha256": "f" * 64},
    )


def test_a_job_is_created_once_and_known_by_its_tags(place: Place, request_: JobRequest) -> None:
    assert place.backend.describe(request_.job_name) is None
    place.backend.check(request_)
    arn = place.backend.create(request_)
    assert arn.endswith(f":labeling-job/{request_.job_name}")
    for taken in (request_, replace(request_, job_name=request_.job_name.upper())):
        with pytest.raises(AlreadyExists):
            place.backend.create(taken)
    status = place.until(request_.job_name, BackendState.INITIALIZING, BackendState.IN_PROGRESS)
    assert (status.arn, status.tags) == (arn, request_.tags)


def test_a_stopped_job_leaves_its_lines_and_nothing_else(place: Place, request_: JobRequest) -> None:
    place.backend.create(request_)
    place.until(request_.job_name, BackendState.IN_PROGRESS)
    place.backend.stop(request_.job_name)
    status = place.until(request_.job_name, BackendState.STOPPED)
    assert status.labeled == 0
    expected = f"{request_.output_uri}/{request_.job_name}/manifests/output/output.manifest"
    assert status.output_manifest_uri == expected
    output = read_job(place.objects, expected.removesuffix("/manifests/output/output.manifest"), "labels")
    assert output.is_complete(2)
    assert (len(output.unlabeled), output.answers, output.quarantined) == (2, (), ())
    lines = place.objects.get(request_.manifest_uri).decode().splitlines()
    assert [line.task for line in output.lines] == [json.loads(line)["gandt-task"] for line in lines]
    place.backend.stop(request_.job_name)
    place.backend.stop("gt-nobody-r1-000000000000")
