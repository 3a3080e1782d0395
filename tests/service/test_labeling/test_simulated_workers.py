# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole labeling job with simulated workers: our manifest, template and Lambdas, real HTTP, then our reader."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from gandt.adapters.s3 import S3Objects
from gandt.client.labeling_portal import simulate_workers
from gandt.domain.datasets import AnswerState
from gandt.domain.labeling.ground_truth import LineKind
from gandt.domain.labeling.job_output import read_job
from gandt.domain.labeling.manifest import Tile, prepare_manifest, question, upload
from gandt.domain.labeling.simulated_worker import SimWorker, WorkerKind

CLASSES = ["cat", "dog", "Kid's & other"]


@pytest.mark.parametrize("threads", [1, 3])
def test_every_answer_that_goes_in_comes_out(service: Any, threads: int) -> None:
    name = f"simulated-{threads}"
    truth = {f"{name}-{i}": (CLASSES[i % 3],) for i in range(30)}
    listed = [Tile(f"s3://gandt/photos/{i}.jpg", image) for i, image in enumerate(truth)]
    manifest = prepare_manifest(listed, question(CLASSES, multi_label=False), 8, task_prefix=name)
    store = S3Objects(service.s3)
    request = service.request(name, slots=3)
    place = f"s3://gandt/in/{name}"
    request["InputConfig"]["DataSource"]["S3DataSource"]["ManifestS3Uri"] = upload(store, place, manifest.data)
    template = files("gandt_labeling").joinpath("templates/grid.liquid.html").read_bytes()
    request["HumanTaskConfig"]["UiConfig"]["UiTemplateS3Uri"] = upload(store, place, template, "grid.liquid.html")
    service.sagemaker.create_labeling_job(**request)
    service.wait_for(name, "InProgress")

    workers = [SimWorker(f"{name}-w{i}", 1, accuracy=1.0) for i in range(3)]
    workers.append(SimWorker(f"{name}-spam", 1, WorkerKind.CONSTANT, blank_probability=0.3))
    invites = [service.invite(worker.name) for worker in workers]

    def is_over() -> bool:
        status = service.sagemaker.describe_labeling_job(LabelingJobName=name)["LabelingJobStatus"]
        return status in ("Completed", "Failed", "Stopped")

    work = simulate_workers(service.url, invites, workers, truth, is_over, threads=threads)
    assert sum(work.pages.values()) == 4 * 3
    assert work.refused == {}
    described = service.wait_for(name, "Completed")

    output = read_job(store, described["LabelingJobOutput"]["OutputDatasetS3Uri"].partition("/manifests/")[0])
    assert [line.kind for line in output.lines] == [LineKind.LABELED] * 4
    assert output.is_complete(len(manifest.lines))
    assert (output.quarantined, output.repeated, output.failed) == ((), (), ())
    assert len(output.answers) == 30 * 3
    assert {answer.page for answer in output.answers} == {task.task_id for task in manifest.tasks}
    assert {answer.job for answer in output.answers} == {name}
    assert all(answer.answered_at is not None and (answer.seconds or 0) > 0 for answer in output.answers)
    right = {answer.worker_id for answer in output.answers if answer.labels == truth[answer.image_id]}
    by_worker = {worker: [a for a in output.answers if a.worker_id == worker] for worker in right}
    honest = [worker for worker, given in by_worker.items() if all(a.labels == truth[a.image_id] for a in given)]
    assert len(honest) == 3
    blank = sum(answer.state == AnswerState.BLANK for answer in output.answers)
    assert (blank > 0) == (work.pages[f"{name}-spam"] > 0)
