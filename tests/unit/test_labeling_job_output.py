# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's whole output: answers once, times from the right file, what is broken set aside."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from gandt.adapters.memory_objects import MemoryObjects
from gandt.domain.errors import NotFound
from gandt.domain.labeling.ground_truth import LineKind
from gandt.domain.labeling.job_output import read_job

ROOT = "s3://out/gandt/r1/job-a"
REQUEST = f"{ROOT}/annotations/consolidated-annotation/consolidation-request/iteration-"
RESPONSE = f"{ROOT}/annotations/worker-response/iteration-1/"
MANIFEST = f"{ROOT}/manifests/output/output.manifest"
TILES = [
    {"task": "t-0", "id": "a", "event_names": ["x", "y"], "other_category_label": "Other",
     "source-ref": "s3://b/a.jpg", "index": 0},
    {"task": "t-0", "id": "b", "source-ref": "s3://b/b.jpg", "index": 1},
]  # fmt: skip
METADATA = {"type": "groundtruth/custom", "job-name": "job-a", "human-annotated": "yes"}


def form(a: str, b: str = "x", **more: Any) -> dict[str, Any]:
    return {"labels-0": json.dumps([a]), "labels-1": json.dumps([b]), **more}


def batch(*annotations: dict[str, Any], object_id: str = "0") -> Any:
    return [
        {"datasetObjectId": object_id, "dataObject": {"content": json.dumps(TILES)}, "annotations": list(annotations)}
    ]


def annotation(worker: str, content: Any) -> dict[str, Any]:
    return {"workerId": worker, "annotationData": {"content": json.dumps(content)}}


def answer(worker: str, content: Any, second: int, spent: float = 10.0) -> dict[str, Any]:
    return {
        "acceptanceTime": f"2026-11-23T16:00:{second:02d}.000Z",
        "submissionTime": f"2026-11-23T16:01:{second:02d}.000Z",
        "timeSpentInSeconds": spent,
        "workerId": worker,
        "workerMetadata": {"identityData": {"sub": "private"}},
        "answerContent": content,
    }


def put(store: MemoryObjects, uri: str, value: Any) -> None:
    store.put(uri, value if isinstance(value, bytes) else json.dumps(value).encode())


def seen(store: MemoryObjects, place: str = ROOT) -> list[tuple[str, str, tuple[str, ...]]]:
    return [(a.image_id, a.worker_id, a.labels) for a in read_job(store, place).answers]


def test_a_batch_and_its_responses_are_the_same_answers() -> None:
    store = MemoryObjects()
    put(store, f"{REQUEST}1/2026-11-23_16:40:12.json", batch(annotation("w1", form("x")), annotation("w2", form("y"))))
    assert seen(store) == [("a", "w1", ("x",)), ("b", "w1", ("x",)), ("a", "w2", ("y",)), ("b", "w2", ("x",))]
    put(store, f"{RESPONSE}0/2026-11-23_16:40:12.json", {"answers": [answer("w1", form("x"), 5)]})
    put(store, f"{RESPONSE}0/2026-11-23_16:41:12.json", {"answers": [answer("w1", form("x"), 5)]})
    put(store, f"{RESPONSE}0/2026-11-23_16:42:12.json",
        {"answers": [answer("w2", form("y", **{"ms-0": "2500"}), 6)]})  # fmt: skip
    output = read_job(store, ROOT)
    assert [(a.image_id, a.worker_id) for a in output.answers] == [("a", "w1"), ("b", "w1"), ("a", "w2"), ("b", "w2")]
    first = output.answers[0]
    assert (first.job, first.page, first.seconds) == ("job-a", "t-0", 5.0)
    assert first.answered_at == datetime(2026, 11, 23, 16, 1, 5, tzinfo=UTC)
    assert [a.seconds for a in output.answers[2:]] == [2.5, 5.0]
    assert (output.quarantined, output.repeated) == ((), ())
    assert "private" not in repr(output)


def test_a_batch_that_was_sent_twice_counts_once() -> None:
    store = MemoryObjects()
    put(store, f"{REQUEST}1/a.json", batch(annotation("w1", form("x"))))
    put(store, f"{REQUEST}2/b.json", batch(annotation("w1", form("x"))))
    output = read_job(store, ROOT)
    assert (len(output.answers), output.repeated) == (2, ())


def test_of_a_worker_who_answers_again_the_latest_counts() -> None:
    store = MemoryObjects()
    put(store, f"{REQUEST}10/b.json", batch(annotation("w1", form("y"))))
    put(store, f"{REQUEST}9/a.json", batch(annotation("w1", form("x"))))
    output = read_job(store, ROOT)
    assert [a.labels for a in output.answers] == [("y",), ("x",)]
    assert [a.labels for a in output.repeated] == [("x",), ("x",)]
    put(store, f"{RESPONSE}0/a.json", {"answers": [answer("w1", form("y", "y"), 9), answer("w1", form("x", "x"), 3)]})
    output = read_job(store, ROOT)
    assert [a.labels for a in output.answers] == [("y",), ("y",)]
    put(store, f"{REQUEST}11/c.json", batch(annotation("w1", form("x")), object_id="1"))  # the same images, other page
    output = read_job(store, ROOT)
    assert [a.labels for a in output.answers] == [("y",), ("y",)]
    assert len(output.repeated) == 4


def test_broken_parts_are_set_aside_one_by_one() -> None:
    store = MemoryObjects()
    bad = {"workerId": "w2", "annotationData": {"content": "{not json" + "x" * 1000}}
    unreachable = {"workerId": "w3", "annotationData": {"s3Uri": "s3://out/none.json"}}
    put(store, "s3://out/w4#1.json", form("y"))
    fetched = {"workerId": "w4", "annotationData": {"s3uri": "s3://out/w4#1.json"}}
    nobody = {"annotationData": {"content": "{}"}}
    put(store, f"{REQUEST}1/a.json", batch(annotation("w1", form("x", "z")), bad, unreachable, fetched, nobody, {}))
    put(store, f"{REQUEST}1/b.json", b"\xff not json")
    put(store, f"{REQUEST}1/c.json", {"a": 1})
    put(store, f"{RESPONSE}77/a.json", {"answers": [answer("w9", form("x"), 1), "text"]})
    output = read_job(store, ROOT)
    assert [(a.image_id, a.worker_id) for a in output.answers] == [("a", "w1"), ("a", "w4"), ("b", "w4")]
    assert sorted((q.rule, q.worker_id, q.object_id) for q in output.quarantined) == [
        ("file_not_a_list", "", ""),
        ("file_not_json", "", ""),
        ("no_worker", "", "0"),
        ("no_worker", "", "0"),
        ("no_worker", "", "77"),
        ("not_json", "w2", "0"),
        ("object_unknown", "w9", "77"),
        ("unknown_label", "w1", "0"),
        ("unreadable", "w3", "0"),
    ]
    assert {q.job for q in output.quarantined} == {"job-a"}
    assert max(len(q.excerpt.encode()) for q in output.quarantined) == 500


def test_an_earlier_readable_form_counts_when_the_latest_is_broken() -> None:
    store = MemoryObjects()
    put(store, f"{REQUEST}1/a.json", batch(annotation("w1", form("x"))))
    put(store, f"{RESPONSE}0/a.json", {"answers": [answer("w1", form("x"), 1), answer("w1", "junk", 2)]})
    output = read_job(store, ROOT)
    assert [a.labels for a in output.answers] == [("x",), ("x",)]
    assert [q.rule for q in output.quarantined] == ["not_json"]


def test_output_manifest_lines_and_both_spellings() -> None:
    store = MemoryObjects()
    label = {"responses": [{"workerId": "w1", "annotation": form("x")}],
             "quarantined": [{"workerId": "w2", "rule": "not_json", "excerpt": "{"}]}  # fmt: skip
    failure = {"retry-count": 1, "failure-reason": "ClientError: Annotation tasks expired.", "human-annotated": "true"}
    guide = {"type": "groundTruth/custom", "job_name": "labeling-job/job-a", "creation_date": "2026-11-23T16:41:02"}
    source = json.dumps(TILES)
    lines = [
        {"source": source, "gandt-task": "t-0", "labels": label, "labels-metadata": METADATA},
        {"source": source, "gandt-task": "t-1", "labels-metadata": failure},
        {"source": source, "gandt-task": "t-2"},
        {"source": source, "labels": {}, "labels-metadata": {**guide, "worker-response-ref": "s3://out/x.json"}},
    ]
    put(store, MANIFEST, "".join(json.dumps(line) + "\n" for line in lines).encode() + b'{"torn": ')
    output = read_job(store, ROOT)
    assert [(line.number, line.kind) for line in output.lines] == [
        (0, LineKind.LABELED), (1, LineKind.FAILED), (2, LineKind.UNLABELED), (3, LineKind.LABELED),
    ]  # fmt: skip
    assert [line.task for line in output.lines] == ["t-0", "t-1", "t-2", "t-0"]
    assert output.failed[0].reason == failure["failure-reason"]
    assert [line.number for line in output.unlabeled] == [2]
    assert (output.is_complete(4), output.is_complete(5)) == (True, False)
    assert [(a.image_id, a.worker_id, a.job) for a in output.answers] == [("a", "w1", "job-a"), ("b", "w1", "job-a")]
    assert [(q.worker_id, q.rule) for q in output.quarantined] == [("", "line_not_json"), ("w2", "not_json")]
    put(store, f"{REQUEST}1/a.json", batch(annotation("w1", form("x"))))
    assert len(read_job(store, ROOT).answers) == 2  # not once more


def test_times_alone_suffice_where_the_manifest_says_what_was_shown() -> None:
    store = MemoryObjects()
    put(store, MANIFEST, json.dumps({"source": json.dumps(TILES), "labels": {}, "labels-metadata": METADATA}).encode())
    put(store, f"{RESPONSE}0/a.json", {"answers": [answer("w1", form("x"), 1)]})
    assert seen(store) == [("a", "w1", ("x",)), ("b", "w1", ("x",))]


def test_several_jobs_a_single_file_and_nothing() -> None:
    store = MemoryObjects()
    put(store, f"{REQUEST}1/a.json", batch(annotation("w1", form("x"))))
    put(store, f"{REQUEST.replace('job-a', 'job-a2')}1/a.json", batch(annotation("w1", form("y"))))
    assert {a.job for a in read_job(store, "s3://out/gandt").answers} == {"job-a", "job-a2"}
    assert {a.job for a in read_job(store, ROOT).answers} == {"job-a"}
    assert {a.job for a in read_job(store, f"{REQUEST}1/a.json").answers} == {"job-a"}
    put(store, "s3://out/loose.json", batch(annotation("w1", form("y"))))
    put(store, "s3://out/loose-answers.json", {"answers": [answer("w1", form("x"), 1)]})
    assert [a.labels for a in read_job(store, "s3://out/loose.json").answers] == [("y",), ("x",)]
    assert [q.rule for q in read_job(store, "s3://out/loose-answers.json").quarantined] == ["object_unknown"]
    for place in ["s3://out/none", "s3://empty", "s3://out/gandt/r1/job-a/annotations/consolidated-annotation/x"]:
        with pytest.raises(NotFound) as caught:
            read_job(store, place)
        assert caught.value.reason == "NO_ANSWERS_FOUND"
