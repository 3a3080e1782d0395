# SPDX-License-Identifier: GPL-3.0-or-later
"""A truth to rehearse a campaign with when nobody knows the real one.

The labels that are known are resampled, a model of them gives each image its chances, and one label an image is
drawn from those, with the share of wanted images that the caller expects. Another seed supposes another truth, so
several together show how far a forecast can be trusted. It is optimistic in one respect: the images that it makes
wanted look like the known ones, and a wanted image that looks like none of them is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.selection.class_models import ClassModels, fit_classes
from gandt.domain.selection.pool import Matrix, unit_rows
from gandt.domain.selection.space import SAMPLE_ROWS, Space, space_of
from gandt.domain.selection.training import TrainingSet, merged, training_set

BLOCK_ROWS = 8_192
_LEAST = 1e-9  # a chance is kept this far from 0 and 1
_STEPS = 60  # halvings of the interval of the shift; enough for every digit of a float


def suppose_truth(
    ids: Sequence[str],
    vectors: NDArray[np.float32],
    known: Mapping[str, tuple[str, ...]],
    target_labels: Sequence[str],
    share: float,
    seed: int,
) -> dict[str, tuple[str, ...]]:
    """One label for each image.

    Args:
        ids: N image ids.
        vectors: f32[N, D].
        known: labels of images that are known; they stay as they are. Those without a vector teach nothing.
        target_labels: the wanted labels; without any, labels are drawn by their chances alone.
        share: expected share of wanted images among the others, in (0, 1).
        seed: of the resampling and the draws.
    Raises:
        InvalidInput: the known labels do not tell two labels apart, or none of them is wanted.
    """
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(len(ids), min(len(ids), SAMPLE_ROWS), replace=False))
    space = space_of(unit_rows(vectors[sample]))
    rows = [row for row, image in enumerate(ids) if image in known]
    labeled = [LabeledImage(ids[row], known[ids[row]], 1.0) for row in rows]
    everything = training_set(merged(labeled), [ids[row] for row in rows], unit_rows(vectors[rows]))
    models = fit_classes(_resampled(everything, rng), space, seed, 0)
    wanted = [name in set(target_labels) for name in models.names] if models else []
    if models is None or (target_labels and not 0 < sum(wanted) < len(wanted)):
        raise InvalidInput(
            "the known labels do not tell wanted images from others",
            field="labels",
            reason="TOO_FEW_LABELS",
            fix="import some wanted images and some others with --seed-labels, or give all true labels with --truth",
        )
    chances = np.clip(_chances(models, space, vectors), _LEAST, 1 - _LEAST)  # [N, C]
    if target_labels:
        chances = _with_share(chances, np.array(wanted), share)
    drawn = _draw(chances / chances.sum(axis=1, keepdims=True), rng)
    return {image: known.get(image, (models.names[choice],)) for image, choice in zip(ids, drawn, strict=True)}


def _resampled(training: TrainingSet, rng: np.random.Generator) -> TrainingSet:
    """As many images of each label again, drawn with replacement."""
    rows = np.arange(len(training))
    by_labels: dict[tuple[str, ...], list[int]] = {}
    for row, labels in enumerate(training.labels):
        by_labels.setdefault(labels, []).append(row)
    for group in by_labels.values():
        rows[group] = rng.choice(group, len(group))
    return TrainingSet(
        tuple(f"{training.ids[row]}#{place}" for place, row in enumerate(rows)),
        training.vectors[rows],
        tuple(training.labels[row] for row in rows),
        training.probabilities[rows],
        training.names,
    )


def _chances(models: ClassModels, space: Space, vectors: NDArray[np.float32]) -> Matrix:
    blocks = [
        models.chances(space.project(unit_rows(vectors[start : start + BLOCK_ROWS])))
        for start in range(0, len(vectors), BLOCK_ROWS)
    ]
    return np.concatenate(blocks)


def _with_share(chances: Matrix, wanted: NDArray[np.bool_], share: float) -> Matrix:
    """Chances that sum to one, with a mean chance of `share` to be wanted.

    Args:
        chances: f64[N, C] in (0, 1).
        wanted: bool[C].
    """
    parts = [chances[:, wanted], chances[:, ~wanted]]
    odds = np.log(parts[0].sum(axis=1)) - np.log(parts[1].sum(axis=1))  # [N]: log odds of wanted
    low, high = -100.0, 100.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(odds + middle).mean() < share else (low, middle)
    chance = _sigmoid(odds + low)[:, None]
    out = np.empty_like(chances)
    out[:, wanted] = parts[0] / parts[0].sum(axis=1, keepdims=True) * chance
    out[:, ~wanted] = parts[1] / parts[1].sum(axis=1, keepdims=True) * (1 - chance)
    return out


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _draw(chances: Matrix, rng: np.random.Generator) -> NDArray[np.int64]:
    """i64[N]: a column of each row of f64[N, C], by its chance."""
    return np.asarray(np.argmax(np.cumsum(chances, axis=1) > rng.random((len(chances), 1)), axis=1))
