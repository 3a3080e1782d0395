# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's aggregation, case by case: images, workers and the filter of unreliable workers."""

from __future__ import annotations

from typing import Any

import pytest

from gandt.domain.aggregation.answer_table import AnswerTableBuilder
from gandt.domain.aggregation.chunks import AnswerEncoder
from gandt.domain.aggregation.compat import (
    CompatAnswer,
    CompatImage,
    filter_unreliable,
    score_workers,
    summarize_image,
)
from gandt.domain.aggregation.compat_run import aggregate_compat
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.datasets import Answer, LabelStatus
from gandt.domain.errors import WrongState
from tests.conftest import golden_cases

# What our error says where the original crashes with the error on the left.
REASONS = {
    "no_rows_raises": "NO_ANSWERS",
    "nobody_certain": "NOBODY_CERTAIN",
    "empty_answers_dilute_denominator_until_nobody_is_certain": "NOBODY_CERTAIN",
    "include_previous_without_previous_raises": "NO_PREVIOUS_ANSWERS",
}
PARAMETERS = {
    "min_ratings_no": "min_answers",
    "min_ratings_prop": "min_proportion",
    "reliability_threshold": "threshold",
    "include_previous_in_output": "include_previous",
}


def cases(fn: str) -> list[Any]:
    """Golden cases of one function; the skipped one when the file is absent."""
    found = golden_cases("aggregation_compat")
    return [case for case in found if case.values[0] is None or case.values[0]["fn"] == fn]


def frame(image: CompatImage, with_key: bool) -> dict[str, Any]:
    """Our record in the original's column names."""
    key = {"image_filename": image.image, "labelling_job_name": image.job} if with_key else {}
    return {
        **key,
        "decoy_label": None,
        "is_decoy": False,
        "is_label_certain": image.certain,
        "labels": list(image.labels),
        "labels_all_same": image.all_same,
        "majority_label": list(image.majority),
        "majority_label_description": image.description,
        "majority_label_verbose": image.verbose,
        "no_eligible_workers": image.rows,
        "no_most_common_labels": image.top,
        "worker_list": list(image.workers),
        "worker_quality": dict(image.worker_quality),
    }


def rows(table: list[Any]) -> list[CompatAnswer]:
    return [CompatAnswer(job, image, worker, tuple(labels)) for job, image, worker, labels in table]


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("image"))
def test_image_statistics(case: dict[str, Any]) -> None:
    answers = [CompatAnswer("j", "i.jpg", worker, tuple(labels)) for worker, labels in case["input"]]
    # Decoys are no parameter here: the original takes them and never finds one.
    given = {PARAMETERS[name]: value for name, value in case["params"].items() if name != "decoys"}
    if "error" in case:
        with pytest.raises(WrongState) as caught:
            summarize_image(answers, **given)
        assert caught.value.reason == REASONS[case["name"]]
        return
    assert frame(summarize_image(answers, **given), with_key=False) == case["output"]


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("workers"))
def test_worker_reliability(case: dict[str, Any]) -> None:
    params = dict(case["params"])
    earlier = [quality for frame in params.pop("previous", []) for quality in frame]
    given = {"labels_per_experiment" if k == "no_labels_per_experiment" else k: v for k, v in params.items()}
    found = score_workers([*case["input"], *earlier], **given)
    assert [
        {"worker_id": w.worker, "mean": w.mean, "count": w.count, "is_worker_reliable": w.reliable} for w in found
    ] == case["output"]


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("filter"))
def test_filter_of_unreliable_workers(case: dict[str, Any]) -> None:
    params = dict(case["params"])
    earlier = [rows(table) for table in params.pop("previous", [])]
    given = {PARAMETERS[name]: value for name, value in params.items() if name != "decoys"}
    if "error" in case:
        with pytest.raises(WrongState) as caught:
            filter_unreliable(rows(case["input"]), earlier, **given)
        assert caught.value.reason == REASONS[case["name"]]
        return
    result = filter_unreliable(rows(case["input"]), earlier, **given)
    assert [frame(image, with_key=True) for image in result.unfiltered] == case["output"]["unfiltered"]
    assert [frame(image, with_key=True) for image in result.filtered] == case["output"]["filtered"]


@pytest.mark.golden
@pytest.mark.parametrize("case", cases("filter"))
def test_filter_through_the_services_tables(case: dict[str, Any]) -> None:
    """The same cases as chunks through `aggregate_compat`: its items are the filtered frame, lost images put back."""
    params = dict(case["params"])
    encoder, builder = AnswerEncoder(), AnswerTableBuilder()
    for previous, tables in ((True, params.pop("previous", [])), (False, [case["input"]])):
        for table in tables:
            answers = [Answer(row.image, row.worker, row.labels, job=row.job) for row in rows(table)]
            for chunk in encoder.encode(answers, previous):
                builder.add(chunk)
    spec = AggregateSpec(
        compat=True,
        min_answers=params.get("min_ratings_no", 2),
        min_proportion=params.get("min_ratings_prop", 0.5),
        reliability_threshold=params.get("reliability_threshold", 0.8),
        include_previous=params.get("include_previous_in_output", False),
    )
    if "error" in case or not case["output"]["filtered"]:
        with pytest.raises(WrongState) as caught:
            aggregate_compat(builder.build(), spec)
        assert caught.value.reason == REASONS.get(case["name"], "EVERYONE_UNRELIABLE")
        return
    found = aggregate_compat(builder.build(), spec)
    labeled = {
        (i.job, i.image_id): (list(i.labels), i.description, i.answers, i.agreeing, i.status is LabelStatus.CERTAIN)
        for i in found.items
        if i.status is not LabelStatus.UNLABELED
    }
    assert labeled == {
        (f["labelling_job_name"], f["image_filename"]): (
            f["majority_label"],
            f["majority_label_verbose"],
            f["no_eligible_workers"],
            f["no_most_common_labels"],
            f["is_label_certain"],
        )
        for f in case["output"]["filtered"]
    }
    everything = {(job, image) for job, image, _, _ in case["input"]}
    assert everything <= {(i.job, i.image_id) for i in found.items}
