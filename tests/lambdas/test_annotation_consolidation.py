# SPDX-License-Identifier: GPL-3.0-or-later
"""The consolidation Lambda: the original's shape for good batches, and no batch lost for a bad answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gandt_lambdas.annotation_consolidation import ConsolidationError, lambda_handler, majority, split_uri

FOLDER = "s3://out/p#1/job a/annotations"
FIRST = {"labels-0": '["Birthday"]', "labels-2": '["None of the above"]'}
SECOND = {"labels-0": '["Birthday","Wedding"]', "labels-2": "[]"}


def annotation(worker: str, **data: Any) -> dict[str, Any]:
    return {"workerId": worker, "annotationData": data}


def batch(*annotations: Any, object_id: str = "0") -> list[dict[str, Any]]:
    return [
        {
            "datasetObjectId": object_id,
            "dataObject": {"content": json.dumps([{"source-ref": "s3://b/0.jpg", "index": 0}])},
            "annotations": list(annotations),
        }
    ]


def run(payload: Any) -> Any:
    return lambda_handler({"labelAttributeName": "labels", "test_payload": payload})


def expected(*responses: tuple[str, Any], object_id: str = "0", attribute: str = "labels") -> dict[str, Any]:
    answers = [{"workerId": worker, "annotation": answer} for worker, answer in responses]
    return {
        "datasetObjectId": object_id,
        "consolidatedAnnotation": {"content": {attribute: {"responses": answers}}},
    }


def test_the_zipped_file_runs_alone_against_s3(invoke: Any, s3: tuple[dict[str, bytes], dict[str, str]]) -> None:
    objects, environment = s3
    key = "out/p#1/job a/annotations/consolidated-annotation/consolidation-request/iteration-1/2026-11-23_16:40:12.json"
    objects["out/w?x#2.json"] = json.dumps(SECOND).encode()
    payload = batch(
        annotation("w1", content=json.dumps(FIRST)),
        annotation("w2", s3Uri="s3://out/w?x#2.json"),
        annotation("w3", s3uri="s3://out/w?x#2.json"),
        annotation("w4", s3Uri="s3://out/gone.json"),
    )
    objects[key] = json.dumps(payload).encode()
    event = {
        "version": "2018-10-16",
        "labelingJobArn": "arn:aws:sagemaker:eu-west-1:111122223333:labeling-job/job-a",
        "labelCategories": None,
        "labelAttributeName": "labels",
        "roleArn": "arn:aws:iam::111122223333:role/gandt-job",
        "payload": {"s3Uri": f"s3://{key}"},
    }
    (answer,) = invoke("annotation_consolidation", event, environment)
    content = answer["consolidatedAnnotation"]["content"]["labels"]
    assert content["responses"] == [
        {"workerId": "w1", "annotation": FIRST},
        {"workerId": "w2", "annotation": SECOND},
        {"workerId": "w3", "annotation": SECOND},
    ]
    assert [(q["workerId"], q["rule"]) for q in content["quarantined"]] == [("w4", "unreadable")]
    objects[key] = b"not json"
    with pytest.raises(pytest.fail.Exception, match="ConsolidationError"):
        invoke("annotation_consolidation", event, environment)


def test_a_good_batch_has_exactly_the_originals_shape(invoke: Any) -> None:
    payload = batch(annotation("w1", content=json.dumps(FIRST)), annotation("w2", content=json.dumps(SECOND)))
    payload += batch(annotation("w3", content=json.dumps({"annotatedResult": {"boxes": []}})), object_id="1")
    event = {"labelAttributeName": "seen", "test_payload": payload}
    assert invoke("annotation_consolidation", event, clean=True) == [
        expected(("w1", FIRST), ("w2", SECOND), attribute="seen"),
        expected(("w3", {"boxes": []}), object_id="1", attribute="seen"),
    ]


@pytest.mark.parametrize(
    ("bad", "rule"),
    [
        (annotation("bad", content="{not json"), "not_json"),
        (annotation("bad", content="3"), "not_an_object"),
        (annotation("bad", content="null"), "not_an_object"),
        (annotation("bad", other="x"), "no_content"),
        (annotation("bad", s3Uri="https://b/k"), "unreadable"),
        ({"workerId": "bad"}, "no_content"),
        ({"workerId": "bad", "annotationData": "text"}, "no_content"),
    ],
)
def test_one_bad_answer_costs_no_other(bad: dict[str, Any], rule: str) -> None:
    payload = batch(annotation("w1", content=json.dumps(FIRST)), bad, annotation("w2", content=json.dumps(SECOND)))
    payload += batch(annotation("w3", content=json.dumps(FIRST)), object_id="1")
    first, second = run(payload)
    content = first["consolidatedAnnotation"]["content"]["labels"]
    assert [r["workerId"] for r in content["responses"]] == ["w1", "w2"]
    assert [(q["workerId"], q["rule"]) for q in content["quarantined"]] == [("bad", rule)]
    assert second == expected(("w3", FIRST), object_id="1")
    assert run(payload) == [first, second]  # a second call gives the same


def test_the_excerpt_is_cut_at_500_bytes() -> None:
    (entry,) = run(batch(annotation("w", content="é" * 1000)))
    (bad,) = entry["consolidatedAnnotation"]["content"]["labels"]["quarantined"]
    assert len(bad["excerpt"].encode()) == 500


def test_an_answer_that_is_no_object_and_an_entry_without_id() -> None:
    payload: list[Any] = [None, {"annotations": []}, *batch("text", None)]
    (entry,) = run(payload)
    assert entry["consolidatedAnnotation"]["content"]["labels"]["responses"] == []
    assert len(entry["consolidatedAnnotation"]["content"]["labels"]["quarantined"]) == 2


def test_an_event_without_a_batch_is_empty() -> None:
    assert lambda_handler({"labelAttributeName": "labels"}) == []


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"labelAttributeName": ""},
        {"labelAttributeName": "labels", "payload": {}},
        {"labelAttributeName": "labels", "payload": {"s3Uri": "https://b/k"}},
        {"labelAttributeName": "labels", "test_payload": {"a": 1}},
    ],
)
def test_what_is_no_batch_is_a_typed_error(event: dict[str, Any]) -> None:
    with pytest.raises(ConsolidationError):
        lambda_handler(event)


def test_the_key_keeps_what_a_url_parser_cuts() -> None:
    assert split_uri("s3://b/a#1/x?y.json") == ("b", "a#1/x?y.json")


def test_the_majority_stands_beside_the_answers_when_asked_for(invoke: Any) -> None:
    unsure = {"labels-0": '["Birthday"]', "state-0": "unsure", "labels-2": '["Wedding"]', "comment-0": "hm"}
    forms = [FIRST, SECOND, unsure, ["no form"], {"labels-0": "not json", "labels-2": {"Wedding": True, "x": False}}]
    payload = batch(*(annotation(f"w{i}", content=json.dumps(form)) for i, form in enumerate(forms)))
    event = {"labelAttributeName": "labels", "test_payload": payload}
    (answer,) = invoke("annotation_consolidation", event, {"GANDT_CONSOLIDATION": "majority"}, clean=True)
    content = answer["consolidatedAnnotation"]["content"]["labels"]
    assert [response["annotation"] for response in content["responses"]] == forms
    assert content["consolidated"] == {
        "rule": "majority",
        "tiles": [
            {"index": 0, "labels": ["Birthday"], "voters": 2, "votes": {"Birthday": 2, "Wedding": 1}},
            {"index": 2, "labels": ["Wedding"], "voters": 3, "votes": {"None of the above": 1, "Wedding": 2}},
        ],
    }


def test_the_majority_of_half_the_voters_is_none() -> None:
    tiles = majority([{"labels-0": '["a"]'}, {"labels-0": '["b"]'}, {"labels-1": "[]"}])
    assert [(tile["index"], tile["labels"], tile["voters"]) for tile in tiles] == [(0, [], 2), (1, [], 0)]


def test_an_unknown_consolidation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_CONSOLIDATION", "median")
    with pytest.raises(ConsolidationError, match="majority"):
        run(batch())
