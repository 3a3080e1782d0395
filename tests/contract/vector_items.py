# SPDX-License-Identifier: GPL-3.0-or-later
"""Items for tests of vector stores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gandt.domain.fields import FieldValue
from gandt.domain.filters import Filter
from gandt.domain.search_records import ItemSet
from gandt.domain.vectors import VectorSet
from gandt.ports.vector_store import VectorStore

TRAPS = ["o'q", 'a"b', "back\\slash", "日本 語", "s3://b/k", "50 %, x", "'); drop", '["x"]', "😀", "a" * 512]


def items(ids: Sequence[str], matrix: object, fields: Sequence[dict[str, FieldValue]] = ()) -> ItemSet:
    return ItemSet(VectorSet(list(ids), np.array(matrix, np.float32).reshape(len(ids), -1)), fields)


def random_items(count: int, dim: int = 8, seed: int = 0, prefix: str = "i") -> ItemSet:
    rng = np.random.default_rng(seed)
    return items([f"{prefix}{n:04d}" for n in range(count)], rng.normal(size=(count, dim)))


def all_ids(store: VectorStore, name: str, condition: Filter | None = None) -> list[str]:
    return [image_id for block in store.scan(name, condition, block_rows=7).blocks for image_id in block.ids]
