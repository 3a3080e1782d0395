# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays strategies on images whose labels are all known and counts the labels each needs to find the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.pool import Matrix, MemoryRows, Pool, Positions
from gandt.domain.selection.records import EvaluateRun, EvaluateSpec, SelectSpec
from gandt.domain.selection.registry import AUTO, strategies, strategy_named
from gandt.domain.selection.selecting import Known, select
from gandt.domain.selection.space import Space, space_of
from gandt.domain.selection.steps import finish
from gandt.domain.selection.training import training_set

SAMPLE_ROWS = 2_000


@dataclass(frozen=True)
class Truth:
    """Images with known labels.

    Attributes:
        ids: N image ids, ascending.
        vectors: f64[N, D] unit vectors.
        labels: true labels by id.
    """

    ids: Sequence[str]
    vectors: Matrix
    labels: Mapping[str, tuple[str, ...]]


def evaluate(spec: EvaluateSpec, truth: Truth) -> Iterator[Progress | EvaluateRun]:
    """Plays every strategy from the same starts; yields progress and finished runs.

    Workers are taken to be right, and to say a target label or the other label. Each round has the usual control draw.

    Raises:
        InvalidInput: unknown strategies, no targets, or too few images to start from.
    """
    names = list(spec.strategies) or [name for name in strategies() if name != AUTO]
    for name in names:
        strategy_named(name)
    if not spec.target_labels:
        raise InvalidInput("evaluation needs target labels", field="target_labels", reason="NO_TARGETS")
    if not 0.0 < spec.recall_target <= 1.0:
        raise InvalidInput(
            f"recall_target is {spec.recall_target}, it must lie in (0, 1]", field="recall_target", reason="BAD_SHARE"
        )
    is_target = np.array([not set(spec.target_labels).isdisjoint(truth.labels[image]) for image in truth.ids], bool)
    if int(is_target.sum()) <= spec.initial_positives or int((~is_target).sum()) < spec.initial_others:
        raise InvalidInput(
            f"{int(is_target.sum())} target and {int((~is_target).sum())} other images are too few to start from "
            f"{spec.initial_positives} and {spec.initial_others} known ones and look for the rest",
            field="labeled",
            reason="TOO_FEW_IMAGES",
        )
    rng = generator(spec.seed, 0, Stream.SAMPLE)
    rows = np.arange(len(truth.ids))
    sample = rows if len(rows) <= SAMPLE_ROWS else np.sort(rng.choice(rows, SAMPLE_ROWS, replace=False))
    space = space_of(truth.vectors[sample])
    total = spec.repetitions * len(names)
    for repetition in range(spec.repetitions):
        start = _start(spec, is_target, repetition)
        for number, name in enumerate(names):
            yield Progress("replaying", repetition * len(names) + number, total)
            yield from _play(spec, truth, is_target, space, start, name, repetition)
    yield Progress("replaying", total, total)


def _start(spec: EvaluateSpec, is_target: NDArray[np.bool_], repetition: int) -> Positions:
    rng = generator(spec.seed, repetition + 1, Stream.REPLAY)
    positives = rng.choice(np.flatnonzero(is_target), spec.initial_positives, replace=False)
    others = rng.choice(np.flatnonzero(~is_target), spec.initial_others, replace=False)
    return np.concatenate([positives, others]).astype(np.int64)


def _play(
    spec: EvaluateSpec,
    truth: Truth,
    is_target: NDArray[np.bool_],
    space: Space,
    start: Positions,
    name: str,
    repetition: int,
) -> Iterator[Progress | EvaluateRun]:
    row_of = {image: row for row, image in enumerate(truth.ids)}
    labeled = np.zeros(len(truth.ids), bool)
    labeled[start] = True
    needed = ceil(spec.recall_target * (int(is_target.sum()) - spec.initial_positives) - 1e-9)
    found = bought = to_target = 0
    found_by_round: list[int] = []
    bought_by_round: list[int] = []
    while not to_target and not labeled.all():
        pick_rows = _pick(spec, truth, is_target, space, labeled, name, repetition, len(found_by_round) + 1, row_of)
        if not pick_rows:
            break
        for row in pick_rows:
            bought += 1
            found += int(is_target[row])
            to_target = to_target or (bought if found >= needed else 0)
        labeled[pick_rows] = True
        found_by_round.append(found)
        bought_by_round.append(bought)
        yield Progress("replaying", 0, 0)
    yield EvaluateRun(name, repetition, to_target, tuple(found_by_round), tuple(bought_by_round))


def _pick(
    spec: EvaluateSpec,
    truth: Truth,
    is_target: NDArray[np.bool_],
    space: Space,
    labeled: NDArray[np.bool_],
    name: str,
    repetition: int,
    round_number: int,
    row_of: Mapping[str, int],
) -> list[int]:
    other = spec.other_label or "Other"
    known = {
        truth.ids[row]: LabeledImage(
            truth.ids[row],
            tuple(label for label in truth.labels[truth.ids[row]] if label in spec.target_labels)
            if is_target[row]
            else (other,),
        )
        for row in np.flatnonzero(labeled).tolist()
    }
    rows = MemoryRows()
    rows.append(truth.vectors[~labeled])
    pool = Pool([truth.ids[row] for row in np.flatnonzero(~labeled).tolist()], rows)
    training = training_set(known, [truth.ids[row] for row in np.flatnonzero(labeled).tolist()], truth.vectors[labeled])
    request = SelectSpec(
        strategy=name,
        target_labels=spec.target_labels,
        other_label=other,
        count=spec.batch_size,
        seed=spec.seed + repetition,
        round=round_number,
    )
    result = finish(select(request, pool, Known(training, space=space, in_flight=frozenset(training.ids))))
    return [row_of[pick.image_id] for pick in result.picks]
