# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that a job writes, in Ground Truth's exact shapes (pure functions, no I/O)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from gandt_labeling.service.spec import Job, Json

# Ground Truth's own text, two spaces and all: readers of output manifests look for it.
EXPIRED = (
    "ClientError: Annotation tasks expired.  Probable Reasons are 1) TaskAvailabilityLifetimeInSeconds parameter is "
    "too small.  2) Reward is too low for workers to work on the task.  3) If you use a custom html template, your "
    "template may be broken.  4) Data (image/video/text) sent for annotation is broken or too big, preventing "
    "completion.  5) All workers declined the tasks."
)


@dataclass(frozen=True, slots=True)
class GivenAnswer:
    """One worker's submitted answer; times are epoch seconds, `answer` is JSON text of an object."""

    worker_id: str
    leased_at: float
    submitted_at: float
    active_seconds: float
    answer: str


def stamp(seconds: float) -> str:
    """The time in a file name, `2026-11-23_16:40:12`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d_%H:%M:%S")


def iso(seconds: float) -> str:
    """The time in a worker-response file, `2026-11-23T16:38:15.191Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def request_uri(job: Job, batch_no: int, created_at: float) -> str:
    """Where a batch's payload for the post-annotation Lambda lies."""
    return (
        f"{job.spec.folder}/annotations/consolidated-annotation/consolidation-request/"
        f"iteration-{batch_no}/{stamp(created_at)}.json"
    )


def response_uri(job: Job, batch_no: int, created_at: float) -> str:
    """Where what the post-annotation Lambda returned lies."""
    return request_uri(job, batch_no, created_at).replace("/consolidation-request/", "/consolidation-response/")


def worker_response_uri(job: Job, batch_no: int, task_no: int, closed_at: float) -> str:
    """Where the answers to one task lie."""
    return f"{job.spec.folder}/annotations/worker-response/iteration-{batch_no}/{task_no}/{stamp(closed_at)}.json"


def intermediate_uri(job: Job, batch_no: int) -> str:
    """Where the output lines of one batch lie while the job runs."""
    return f"{job.spec.folder}/annotations/intermediate/{batch_no}/annotations.json"


def worker_response(answers: Iterable[GivenAnswer]) -> bytes:
    """The worker-response file of one task."""
    entries = [
        {
            "acceptanceTime": iso(given.leased_at),
            "submissionTime": iso(given.submitted_at),
            "timeSpentInSeconds": round(given.active_seconds, 3),
            "workerId": given.worker_id,
            "answerContent": json.loads(given.answer),
        }
        for given in answers
    ]
    return _json({"answers": entries})


def payload_entry(task_no: int, line: str, answers: Sequence[GivenAnswer]) -> Json:
    """One object of the payload file of a batch."""
    value = json.loads(line)
    content = {"content": value["source"]} if "source" in value else {"s3Uri": value["source-ref"]}
    return {
        "datasetObjectId": str(task_no),
        "dataObject": content,
        "annotations": [
            {"workerId": given.worker_id, "annotationData": {"content": given.answer}} for given in answers
        ],
    }


def payload(entries: Sequence[Json]) -> bytes:
    """The payload file of a batch."""
    return _json(list(entries))


def post_event(job: Job, payload_uri: str) -> Json:
    """The event of the post-annotation Lambda."""
    event: Json = {
        "version": "2018-10-16",
        "labelingJobArn": job.arn,
        "labelCategories": job.label_categories,
        "labelAttributeName": job.spec.attribute,
        "roleArn": job.spec.role_arn,
        "outputConfig": f"{job.spec.folder}/annotations",
        "payload": {"s3Uri": payload_uri},
    }
    if job.spec.kms_key_id:
        event["kmsKeyId"] = job.spec.kms_key_id
    return event


def pre_event(job: Job, line: str) -> Json:
    """The event of the pre-annotation Lambda."""
    return {"version": "2018-10-16", "labelingJobArn": job.arn, "dataObject": json.loads(line)}


def labeled_outcome(job: Job, content: Json, at: float, worker_response_ref: str = "") -> Json:
    """The keys that a labeled line gains; `content` is the Lambda's, `{}` without one."""
    attribute = job.spec.attribute
    metadata: Json = {
        "type": "groundtruth/custom",
        "job-name": job.spec.name,
        "human-annotated": "yes",
        "creation-date": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f"),
    }
    if worker_response_ref:
        metadata["worker-response-ref"] = worker_response_ref
    outcome = {attribute: {}, **content}
    theirs = outcome.pop(f"{attribute}-metadata", None)
    if isinstance(theirs, dict):
        metadata = {**metadata, **{key: value for key, value in theirs.items() if key not in metadata}}
    return {**outcome, f"{attribute}-metadata": metadata}


def failed_outcome(job: Job, reason: str) -> Json:
    """The keys that a failed line gains: no label, three metadata keys, `human-annotated` as Ground Truth spells it."""
    metadata = {"retry-count": 1, "failure-reason": reason, "human-annotated": "true"}
    return {f"{job.spec.attribute}-metadata": metadata}


def output_line(line: str, outcome: str) -> str:
    """One line of the output manifest; `outcome` is JSON text, "" leaves the input line as it was."""
    return json.dumps({**json.loads(line), **json.loads(outcome)}) if outcome else line


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
