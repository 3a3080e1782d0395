# SPDX-License-Identifier: GPL-3.0-or-later
"""Simulated workers: what they answer depends on seed, worker and image, and on nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from gandt.domain.datasets import AnswerState
from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.simulated_worker import SimWorker, WorkerKind, crew
from gandt.domain.labeling.worker_answer import page_of, read_form

CLASSES = ["cat", "dog", "fox"]
IMAGES = [f"img-{i}" for i in range(2000)]
TRUTH = {image: (CLASSES[i % 3],) for i, image in enumerate(IMAGES)}


def choose(worker: SimWorker, image: str, truth: Any = ("cat",), other: str = "Other", multi: bool = False) -> Any:
    return worker.choose(image, truth, CLASSES, other, multi)


def test_the_order_does_not_matter() -> None:
    worker = SimWorker("w", 7, accuracy=0.6, blank_probability=0.1)
    forward = {image: choose(worker, image) for image in IMAGES[:200]}
    backward = {image: choose(worker, image) for image in reversed(IMAGES[:200])}
    assert forward == backward
    assert forward != {image: choose(SimWorker("v", 7, accuracy=0.6), image) for image in IMAGES[:200]}
    assert forward != {image: choose(SimWorker("w", 8, accuracy=0.6), image) for image in IMAGES[:200]}


@pytest.mark.parametrize("accuracy", [0.0, 0.7, 1.0])
def test_an_honest_worker_is_as_right_as_said(accuracy: float) -> None:
    worker = SimWorker("w", 1, accuracy=accuracy)
    right = sum(choose(worker, image, TRUTH[image]).labels == TRUTH[image] for image in IMAGES)
    assert right / len(IMAGES) == pytest.approx(accuracy, abs=0.03)
    yes = [choose(worker, image, ("cat", "dog"), multi=True).labels for image in IMAGES]
    assert sum("dog" in labels for labels in yes) / len(IMAGES) == pytest.approx(accuracy, abs=0.03)
    assert sum("fox" in labels for labels in yes) / len(IMAGES) == pytest.approx(1 - accuracy, abs=0.03)


def test_none_of_the_classes_and_not_known() -> None:
    worker = SimWorker("w", 1, accuracy=1)
    assert choose(worker, "a", ()).labels == ("Other",)
    assert choose(worker, "a", ("horse",)).labels == ("Other",)
    assert choose(worker, "a", (), multi=True).labels == ("Other",)
    assert choose(worker, "a", (), other="", multi=True).state == AnswerState.BLANK
    assert choose(worker, "a", None).state == AnswerState.UNSURE


def test_a_confusion_row() -> None:
    worker = SimWorker("w", 1, confusion={"cat": {"cat": 3, "fox": 1, "Other": 0}})
    given = [choose(worker, image, ("cat",)).labels[0] for image in IMAGES]
    assert given.count("fox") / len(IMAGES) == pytest.approx(0.25, abs=0.03)
    assert set(given) == {"cat", "fox"}


def test_the_other_kinds() -> None:
    def labels(kind: WorkerKind, multi: bool = False) -> set[tuple[str, ...]]:
        return {choose(SimWorker("w", 1, kind), image, multi=multi).labels for image in IMAGES[:100]}

    assert labels(WorkerKind.CONSTANT) == {("cat",)}
    assert labels(WorkerKind.TICK_ALL, multi=True) == {("cat", "dog", "fox")}
    assert labels(WorkerKind.TICK_ALL) == {("Other",)}
    assert labels(WorkerKind.RANDOM) == {("cat",), ("dog",), ("fox",), ("Other",)}
    fast = [choose(SimWorker("w", 1, WorkerKind.TOO_FAST), image).seconds for image in IMAGES]
    usual = [choose(SimWorker("w", 1), image).seconds for image in IMAGES]
    assert max(fast) < min(usual) * 3
    assert sorted(usual)[1000] == pytest.approx(2.0, rel=0.1)
    blank = [choose(SimWorker("w", 1, blank_probability=0.3), image).state for image in IMAGES]
    assert blank.count(AnswerState.BLANK) / len(IMAGES) == pytest.approx(0.3, abs=0.03)


def test_a_form_reads_back_as_what_was_chosen() -> None:
    tiles = [
        {"id": "img-0", "event_names": CLASSES, "other_category_label": "Other", "multi_label": False,
         "source-ref": "s3://b/0.jpg", "index": 0},
        {"source-ref": "s3://b/1.jpg", "index": 5},
    ]  # fmt: skip
    worker = SimWorker("w", 3, accuracy=1)
    answers, broken = read_form(worker.fill_form(tiles, {"img-0": ("dog",), "s3://b/1.jpg": ("fox",)}), page_of(tiles))
    assert broken == []
    assert [(answer.image_id, answer.labels) for answer in answers] == [("img-0", ("dog",)), ("s3://b/1.jpg", ("fox",))]
    assert all(answer.seconds is not None and answer.seconds > 0 for answer in answers)
    assert worker.fill_form([], {}).keys() == {"meta"}


def test_a_crew() -> None:
    team = crew(6, 5, 0.8, spammers=2)
    assert [worker.kind for worker in team[:4]] == [WorkerKind.HONEST] * 4
    assert WorkerKind.HONEST not in [worker.kind for worker in team[4:]]
    assert len({worker.name for worker in team}) == 6
    assert all(0.75 <= worker.accuracy <= 0.85 for worker in team)
    assert team == crew(6, 5, 0.8, spammers=2)
    with pytest.raises(InvalidInput):
        SimWorker("w", accuracy=1.5)
