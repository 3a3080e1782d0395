# SPDX-License-Identifier: GPL-3.0-or-later
"""A labeling backend in memory: the shipped fake. It writes Ground Truth's files into an object store.

Nobody labels by himself here: `label` lets workers answer a job's pages, `end` closes it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gandt.domain.errors import AlreadyExists, GandtError
from gandt.domain.labeling.jobs import BackendState, BackendStatus, JobRequest
from gandt.ports.object_store import ObjectStore

EXPIRED = "ClientError: Annotation tasks expired."
Say = Callable[[str, str], Sequence[str] | None]
"""(worker, image id) -> labels; None when the worker leaves the page's form out altogether."""


@dataclass
class MemoryJob:
    """A job and what was answered.

    Attributes:
        lines: of the input manifest.
        forms: line number to (worker, form) in order.
    """

    request: JobRequest
    lines: list[dict[str, Any]]
    status: BackendStatus
    forms: dict[int, list[tuple[str, dict[str, str]]]] = field(default_factory=dict)


class MemoryLabeling:
    """A `gandt.ports.labeling_backend.LabelingBackend` in memory.

    Args:
        objects: where manifests lie and results go.

    Attributes:
        jobs: by lower-case name.
        faults: raised by the next calls of `create`, one each; None lets a call pass. `after` faults are raised once
            the job exists, as when an answer gets lost.
        creates: names of all calls of `create`.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.jobs: dict[str, MemoryJob] = {}
        self.faults: list[GandtError | None] = []
        self.faults_after: list[GandtError | None] = []
        self.creates: list[str] = []

    def check(self, request: JobRequest) -> None:
        """See the port; everything goes."""

    def create(self, request: JobRequest) -> str:
        """See the port."""
        self.creates.append(request.job_name)
        _raise_next(self.faults)
        if request.job_name.lower() in self.jobs:
            raise AlreadyExists(f"{request.job_name} is taken", kind="labeling job", id=request.job_name)
        lines = [json.loads(line) for line in self._objects.get(request.manifest_uri).decode().splitlines()]
        arn = f"arn:aws:sagemaker:local-1:000000000000:labeling-job/{request.job_name.lower()}"
        manifest = f"{request.output_uri}/{request.job_name}/manifests/output/output.manifest"
        status = BackendStatus(
            BackendState.IN_PROGRESS, arn, unlabeled=len(lines), output_manifest_uri=manifest, tags=dict(request.tags)
        )
        self.jobs[request.job_name.lower()] = MemoryJob(request, lines, status)
        _raise_next(self.faults_after)
        return arn

    def describe(self, job_name: str) -> BackendStatus | None:
        """See the port."""
        job = self.jobs.get(job_name.lower())
        return job.status if job else None

    def stop(self, job_name: str) -> None:
        """See the port; the job ends at once."""
        job = self.jobs.get(job_name.lower())
        if job is not None and not job.status.state.is_final:
            self.end(job_name, BackendState.STOPPED)

    def label(self, job_name: str, workers: Sequence[str], say: Say, page: int | None = None) -> None:
        """Let workers answer every page of a job, or one."""
        job = self.jobs[job_name.lower()]
        for number, line in enumerate(job.lines):
            if page not in (None, number):
                continue
            tiles = json.loads(line["source"])
            for worker in workers:
                said = {tile["index"]: say(worker, tile["id"]) for tile in tiles}
                form = {f"labels-{i}": json.dumps(list(labels)) for i, labels in said.items() if labels is not None}
                if form:
                    job.forms.setdefault(number, []).append((worker, form))

    def end(self, job_name: str, state: BackendState = BackendState.COMPLETED, torn_lines: int = 0) -> None:
        """Write a job's results and end it.

        Args:
            torn_lines: lines that the output manifest lacks (so far).
        """
        job = self.jobs[job_name.lower()]
        place = f"{job.request.output_uri}/{job.request.job_name}"
        attribute = job.request.label_attribute
        payload, manifest = [], []
        for number, line in enumerate(job.lines):
            forms = job.forms.get(number, [])
            metadata: dict[str, Any] = {"type": "groundtruth/custom", "job-name": job.request.job_name}
            if forms:
                annotations = [{"workerId": w, "annotationData": {"content": json.dumps(f)}} for w, f in forms]
                data = {"datasetObjectId": str(number), "dataObject": {"content": line["source"]}}
                payload.append({**data, "annotations": annotations})
                responses = [{"workerId": w, "annotation": f} for w, f in forms]
                label = {attribute: {"responses": responses}, f"{attribute}-metadata": metadata}
                manifest.append({**line, **label})
            elif state is BackendState.COMPLETED:
                failure = {"retry-count": 1, "failure-reason": EXPIRED, "human-annotated": "true"}
                manifest.append({**line, f"{attribute}-metadata": failure})
            else:
                manifest.append(line)
        request = (
            f"{place}/annotations/consolidated-annotation/consolidation-request/iteration-1/2026-01-01_00:00:00.json"
        )
        self._objects.put(request, json.dumps(payload).encode())
        kept = manifest[: len(manifest) - torn_lines]
        self._objects.put(
            f"{place}/manifests/output/output.manifest", "".join(json.dumps(row) + "\n" for row in kept).encode()
        )
        labeled = len(payload)
        job.status = replace(job.status, state=state, labeled=labeled, failed=len(job.lines) - labeled, unlabeled=0)


def _raise_next(faults: list[GandtError | None]) -> None:
    fault = faults.pop(0) if faults else None
    if fault is not None:
        raise fault
