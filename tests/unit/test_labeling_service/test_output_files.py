# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a job, byte shapes of the Ground Truth reference (sections 2.1 to 2.7), read back by our own reader."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from gandt_labeling.service.output import EXPIRED

from gandt.domain.labeling.job_output import read_job

START = datetime(2026, 1, 1, tzinfo=UTC)
ANNOTATIONS = "annotations/"


def finished_job(bench: Any, **changes: Any) -> tuple[str, str]:
    """A job of two pages: the first answered by two workers, the second by nobody."""
    bench.create(pages=2, slots=2, MaxConcurrentTaskCount=1, **changes)
    one, two = sorted((bench.worker(), bench.worker()))
    for worker, label in ((one, "cat"), (two, "dog")):
        lease = bench.lease(worker)
        assert lease.task_no == 0
        bench.clock.advance(40.5)
        bench.leases.submit(lease.lease_id, worker, bench.content(lease, label), 12.25)
    bench.run()
    bench.clock.advance(30)  # the first page waits for company, in vain
    bench.run()
    bench.clock.advance(3600)
    bench.run()
    assert bench.status() == "Completed"
    return one, two


def test_layout_and_payload(bench: Any) -> None:
    one, two = finished_job(bench)
    files = bench.files()
    consolidated = "annotations/consolidated-annotation"
    assert sorted(files) == [
        f"{consolidated}/consolidation-request/iteration-1/2026-01-01_00:01:51.json",
        f"{consolidated}/consolidation-response/iteration-1/2026-01-01_00:01:51.json",
        "annotations/intermediate/1/annotations.json",
        "annotations/worker-response/iteration-1/0/2026-01-01_00:01:21.json",
        "manifests/output/output.manifest",
    ]
    line = json.loads(bench.objects.get("s3://gandt/in/job-1.manifest").splitlines()[0])
    payload = json.loads(files[f"{consolidated}/consolidation-request/iteration-1/2026-01-01_00:01:51.json"])
    cats, dogs = (
        '{"labels-0": "[\\"cat\\"]", "labels-1": "[\\"cat\\"]"}',
        '{"labels-0": "[\\"dog\\"]", "labels-1": "[\\"dog\\"]"}',
    )
    assert payload == [
        {
            "datasetObjectId": "0",
            "dataObject": {"content": line["source"]},
            "annotations": [
                {"workerId": one, "annotationData": {"content": cats}},
                {"workerId": two, "annotationData": {"content": dogs}},
            ],
        }
    ]
    answers = json.loads(files["annotations/worker-response/iteration-1/0/2026-01-01_00:01:21.json"])["answers"]
    assert answers == [
        {
            "acceptanceTime": "2026-01-01T00:00:00.000Z",
            "submissionTime": "2026-01-01T00:00:40.500Z",
            "timeSpentInSeconds": 12.25,
            "workerId": one,
            "answerContent": {"labels-0": '["cat"]', "labels-1": '["cat"]'},
        },
        {
            "acceptanceTime": "2026-01-01T00:00:40.500Z",
            "submissionTime": "2026-01-01T00:01:21.000Z",
            "timeSpentInSeconds": 12.25,
            "workerId": two,
            "answerContent": {"labels-0": '["dog"]', "labels-1": '["dog"]'},
        },
    ]


def test_post_event(bench: Any) -> None:
    bench.objects.put("s3://gandt/in/labels.json", b'{"document-version":"2018-11-28","labels":[{"label":"cat"}]}')
    finished_job(
        bench,
        LabelCategoryConfigS3Uri="s3://gandt/in/labels.json",
        OutputConfig={"S3OutputPath": "s3://gandt/out/", "KmsKeyId": "key-1"},
    )
    assert bench.post_calls == [
        {
            "version": "2018-10-16",
            "labelingJobArn": "arn:aws:sagemaker:local-1:000000000000:labeling-job/job-1",
            "labelCategories": ["cat"],
            "labelAttributeName": "labels",
            "roleArn": "arn:aws:iam::000000000000:role/gandt",
            "outputConfig": "s3://gandt/out/job-1/annotations",
            "payload": {
                "s3Uri": "s3://gandt/out/job-1/annotations/consolidated-annotation/consolidation-request/"
                "iteration-1/2026-01-01_00:01:51.json"
            },
            "kmsKeyId": "key-1",
        }
    ]


def test_output_manifest_text(bench: Any) -> None:
    one, two = finished_job(bench)
    inputs = [json.loads(line) for line in bench.objects.get("s3://gandt/in/job-1.manifest").splitlines()]
    text = bench.files()["manifests/output/output.manifest"]
    first, second = text.splitlines()
    cats, dogs = {"labels-0": '["cat"]', "labels-1": '["cat"]'}, {"labels-0": '["dog"]', "labels-1": '["dog"]'}
    assert first == json.dumps(
        {
            **inputs[0],
            "labels": {"responses": [{"workerId": one, "annotation": cats}, {"workerId": two, "annotation": dogs}]},
            "labels-metadata": {
                "type": "groundtruth/custom",
                "job-name": "job-1",
                "human-annotated": "yes",
                "creation-date": "2026-01-01T00:01:51.000000",
            },
        }
    )
    assert second == json.dumps(
        {
            **inputs[1],
            "labels-metadata": {"retry-count": 1, "failure-reason": EXPIRED, "human-annotated": "true"},
        }
    )
    assert EXPIRED.count("  ") == 5


def test_without_a_post_lambda(bench: Any) -> None:
    bench.create(AnnotationConsolidationConfig=None)
    bench.answer(bench.worker())
    bench.run()
    (line,) = bench.manifest()
    assert line["labels"] == {}
    metadata = line["labels-metadata"]
    assert list(metadata) == ["type", "job-name", "human-annotated", "creation-date", "worker-response-ref"]
    answers = json.loads(bench.objects.get(metadata["worker-response-ref"]))["answers"]
    assert len(answers) == 1


def test_without_a_pre_lambda_the_line_is_the_input(bench: Any) -> None:
    bench.create(PreHumanTaskLambdaArn=None)
    lease = bench.lease(bench.worker())
    assert set(lease.task_input) == {"source", "gandt-task"}


def test_source_ref_lines_have_their_uri_in_the_payload(bench: Any) -> None:
    bench.objects.put("s3://gandt/in/refs.manifest", b'{"source-ref": "s3://gandt/photos/a.png"}\n')
    bench.objects.put("s3://gandt/in/page.html", b"<crowd-form></crowd-form>")
    bench.jobs.create(bench.request("refs", PreHumanTaskLambdaArn=None))
    bench.run()
    worker = bench.worker()
    lease = bench.lease(worker)
    bench.leases.submit(lease.lease_id, worker, {"a": "b"})
    bench.run()
    (request,) = [text for path, text in bench.files("refs").items() if "consolidation-request" in path]
    assert json.loads(request)[0]["dataObject"] == {"s3Uri": "s3://gandt/photos/a.png"}


def test_lambda_metadata_is_kept_beside_ours(make_bench: Any) -> None:
    def post(event: dict[str, Any], context: object) -> Any:
        content = {"labels": {"n": 1}, "labels-metadata": {"confidence": 0.5, "job-name": "fake"}}
        return [{"datasetObjectId": 0, "consolidatedAnnotation": {"content": content}}]

    bench = make_bench(handlers={"arn:aws:lambda:local-1:000000000000:function:gandt-post-LabelingFunction": post})
    bench.create()
    bench.answer(bench.worker())
    bench.run()
    metadata = bench.manifest()[0]["labels-metadata"]
    assert (metadata["job-name"], metadata["confidence"]) == ("job-1", 0.5)


def test_our_reader_of_ground_truth_output_reads_it(bench: Any) -> None:
    one, two = finished_job(bench)
    found = read_job(bench.objects, "s3://gandt/out/job-1/manifests/output/output.manifest", "labels")
    assert {answer.worker_id for answer in found.answers} == {one, two}
    assert len(found.answers) == 4
    assert len(found.failed) == 1
    assert not found.quarantined
    assert found.is_complete(2)
