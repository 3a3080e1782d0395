# SPDX-License-Identifier: GPL-3.0-or-later
"""An image model's probabilities: `image`, then one column a class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np

from gandt.domain.aggregation.records import ModelChunk
from gandt.domain.datasets import check_classes
from gandt.domain.errors import InvalidInput
from gandt.tables.files import Row, read_rows

ROWS = 20_000


def read_probabilities(path: str) -> Iterator[ModelChunk]:
    """The probabilities of a table, streamed; an image whose cells are all empty gets a row of NaN.

    Args:
        path: .csv, .jsonl, .parquet or `-`; every column but `image` is a class.
    Raises:
        InvalidInput: no column of a class, an empty cell among full ones, or one that is no number; names the line.
    """
    rows = read_rows(path, ("image",), {"task": "image"})
    classes: tuple[str, ...] = ()
    while part := list(islice(rows, ROWS)):
        classes = classes or check_classes([column for column in part[0].values if column != "image"], "probabilities")
        yield ModelChunk(
            [row.required("image") for row in part],
            classes,
            np.array([_numbers(row, classes) for row in part], np.float32),
        )


def _numbers(row: Row, classes: tuple[str, ...]) -> list[float]:
    empty = [not row.text(name).strip() for name in classes]
    if all(empty):
        return [float("nan")] * len(classes)
    if any(empty):
        name = classes[empty.index(True)]
        raise InvalidInput(f"{row.where}: column {name!r} is empty", field=name, reason="EMPTY_CELL")
    return [row.number(name, 0.0) for name in classes]
