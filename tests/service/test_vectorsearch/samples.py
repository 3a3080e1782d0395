# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors for tests of vector search, and what was found."""

from __future__ import annotations

import numpy as np

from gandt.domain.search_records import (
    SearchAnswer,
)
from gandt.domain.vectors import VectorSet


def vectors(count: int, dim: int = 8, seed: int = 0, prefix: str = "i", model_id: str = "m") -> VectorSet:
    rng = np.random.default_rng(seed)
    return VectorSet(
        [f"{prefix}{n:04d}" for n in range(count)], rng.normal(size=(count, dim)).astype(np.float32), model_id
    )


def ids_of(answer: SearchAnswer, query: int = 0) -> list[str]:
    return [hit.image_id for hit in answer.results[query].hits]
