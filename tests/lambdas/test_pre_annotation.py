# SPDX-License-Identifier: GPL-3.0-or-later
"""The pre-annotation Lambda: captured events in, the original's shape out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from gandt_lambdas.pre_annotation import PreAnnotationError, lambda_handler

JOB = "arn:aws:sagemaker:eu-west-1:111122223333:labeling-job/gt-parties-r1-3f9c2a7b10de"
TILES = [
    {
        "event_names": ["Birthday", "Kid's & Wedding"],
        "other_category_label": "Other",
        "source-ref": "s3://b/p/0.jpg",
        "index": 0,
    },
    {"source-ref": "s3://b/p/2.jpg", "index": 2},
]


def event(**data: Any) -> dict[str, Any]:
    return {"version": "2018-10-16", "labelingJobArn": JOB, "dataObject": data}


def test_the_zipped_file_runs_alone(invoke: Any) -> None:
    answer = invoke("pre_annotation", event(source=json.dumps(TILES), **{"gandt-task": "t-17"}), clean=True)
    assert answer == {"taskInput": {"taskObject": TILES}, "isHumanAnnotationRequired": True}


def test_a_list_passes_through() -> None:
    assert lambda_handler(event(source=TILES))["taskInput"] == {"taskObject": TILES}


def test_a_source_ref_is_a_group_of_one_tile() -> None:
    answer = lambda_handler(event(**{"source-ref": "s3://b/a#1.jpg", "event_names": ["cat"], "ignored": 1}))
    tile = {"event_names": ["cat"], "source-ref": "s3://b/a#1.jpg", "index": 0}
    assert answer == {"taskInput": {"taskObject": [tile]}, "isHumanAnnotationRequired": True}


def test_a_group_without_tiles_needs_nobody() -> None:
    assert lambda_handler(event(source="[]")) == {"taskInput": {"taskObject": []}, "isHumanAnnotationRequired": False}


@pytest.mark.parametrize("source", ["plain text", "null", "3", '"text"', "", "true", "{", 3, True])
def test_what_is_no_group_is_refused_by_name(source: Any) -> None:
    with pytest.raises(PreAnnotationError) as caught:
        lambda_handler(event(source=source, **{"gandt-task": "t-17"}))
    assert (caught.value.job, caught.value.task) == (JOB, "t-17")
    assert JOB in str(caught.value)
    assert "t-17" in str(caught.value)


@pytest.mark.parametrize("bad", [{}, {"dataObject": None}, {"dataObject": {}}, {"dataObject": {"source": None}}])
def test_a_line_with_neither_key_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(PreAnnotationError, match=r"\(unnamed\)"):
        lambda_handler(bad)
