# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers for tests: written by hand, or drawn from a crowd whose truth is known."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gandt.domain.aggregation.aggregate import Aggregation, aggregate
from gandt.domain.aggregation.answer_table import AnswerTable, AnswerTableBuilder
from gandt.domain.aggregation.chunks import AnswerEncoder
from gandt.domain.aggregation.records import AggregateSpec, ItemVerdict
from gandt.domain.datasets import Answer, AnswerState

Row = tuple[str, str, str]
"""(image, worker, labels joined with `|`); `-` labels mean a blank answer."""


def answer(row: Row, job: str = "") -> Answer:
    image, worker, cell = row
    if cell == "-":
        return Answer(image, worker, (), AnswerState.BLANK, job)
    return Answer(image, worker, tuple(part for part in cell.split("|") if part), job=job)


def table(rows: Iterable[Row], previous: Iterable[Row] = (), chunk_bytes: int = 1_000_000) -> AnswerTable:
    encoder, builder = AnswerEncoder(chunk_bytes), AnswerTableBuilder()
    for chunk in encoder.encode(map(answer, previous), previous=True):
        builder.add(chunk)
    for chunk in encoder.encode(map(answer, rows)):
        builder.add(chunk)
    return builder.build()


def run(
    rows: Iterable[Row],
    gold: Mapping[str, Sequence[str]] | None = None,
    previous: Iterable[Row] = (),
    **spec: Any,
) -> Aggregation:
    return aggregate(table(rows, previous), AggregateSpec(**spec), gold or {}, lambda: None)


def items(result: Aggregation) -> dict[str, ItemVerdict]:
    return {item.image_id: item for item in result.items()}


def crowd(
    images: int, classes: int, answers_each: int, seed: int, workers: int = 40
) -> tuple[list[Row], dict[str, str]]:
    """Long-tailed workers, 12 % spammers, 5 % with one label, 3 % adversaries; rows and the truth."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, images, p=rng.dirichlet(np.full(classes, 5.0)))
    accuracy = np.clip(rng.beta(8, 2, workers), 0.3, 0.99)
    kind = rng.permutation(workers) / workers
    activity = rng.pareto(1.5, workers) + 0.5
    activity /= activity.sum()
    rows = []
    for image in range(images):
        for worker in rng.choice(workers, answers_each, replace=False, p=activity):
            label = truth[image]
            if kind[worker] < 0.12:
                label = rng.integers(classes)
            elif kind[worker] < 0.17:
                label = 0
            elif kind[worker] < 0.20 or rng.random() > accuracy[worker]:
                label = (label + rng.integers(1, classes)) % classes
            rows.append((f"i{image:04d}", f"w{worker:02d}", f"c{label}"))
    return rows, {f"i{i:04d}": f"c{label}" for i, label in enumerate(truth)}


def accuracy(result: Aggregation, truth: Mapping[str, str]) -> float:
    return float(np.mean([truth[item.image_id] in item.labels[:1] for item in result.items()]))
