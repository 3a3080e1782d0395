# SPDX-License-Identifier: GPL-3.0-or-later
"""Small pools with known classes, for the tests of selection."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.selection.pool import MemoryRows, Pool, unit_rows
from gandt.domain.selection.records import SelectResult, SelectSpec
from gandt.domain.selection.selecting import Known, select
from gandt.domain.selection.steps import finish
from gandt.domain.selection.training import TrainingSet, merged, training_set

DIM = 12


def blobs(
    sizes: dict[str, int], seed: int = 0, spread: float = 0.35
) -> tuple[list[str], NDArray[np.float32], list[str]]:
    """Ids, f32[N, 12] vectors and the class of each: one direction a class, some noise."""
    rng = np.random.default_rng(seed)
    centers = {name: rng.normal(size=DIM) for name in sizes}
    names = [name for name, size in sizes.items() for _ in range(size)]
    matrix = np.array([centers[name] / np.linalg.norm(centers[name]) + spread * rng.normal(size=DIM) for name in names])
    return [f"img{row:04d}" for row in range(len(names))], matrix.astype(np.float32).reshape(-1, DIM), names


def pool_of(ids: Sequence[str], matrix: NDArray[np.floating], block_rows: int = 0) -> Pool:
    """A pool in memory."""
    rows = MemoryRows()
    rows.append(np.asarray(matrix))
    return Pool(ids, rows, block_rows)


def known_of(ids: Sequence[str], matrix: NDArray[np.floating], labels: Sequence[str]) -> Known:
    """Labeled images."""
    return Known(trained(ids, matrix, labels))


def trained(ids: Sequence[str], matrix: NDArray[np.floating], labels: Sequence[str]) -> TrainingSet:
    """A training set with certain labels."""
    labeled = merged(LabeledImage(image, (label,)) for image, label in zip(ids, labels, strict=True))
    return training_set(labeled, list(ids), unit_rows(np.asarray(matrix).reshape(len(ids), DIM)))


def pick(spec: SelectSpec, pool: Pool, known: Known) -> SelectResult:
    """Runs a selection to its end."""
    return finish(select(spec, pool, known))
