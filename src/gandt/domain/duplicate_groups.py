# SPDX-License-Identifier: GPL-3.0-or-later
"""Groups of near-duplicates: joining pairs to components, and the member that represents one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.search import unit_rows
from gandt.domain.search_records import DuplicateGroup, DuplicateKeep, DuplicateMember

_ROWS = 4096  # of a group at once, so that a group of everything needs no second matrix


def joined(labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Component labels after joining each pair; a label is the component's smallest row."""
    if not len(first):
        return labels
    edges = np.unique(labels[first] * len(labels) + labels[second])  # one number an edge sorts much faster
    parent: dict[int, int] = {}

    def root(label: int) -> int:
        while parent.get(label, label) != label:
            parent[label] = parent.get(parent[label], parent[label])
            label = parent[label]
        return label

    for edge in edges.tolist():
        ra, rb = (root(label) for label in divmod(edge, len(labels)))
        if ra != rb:
            parent[max(ra, rb)] = min(ra, rb)
    if not parent:
        return labels
    renamed = np.arange(len(labels))
    olds = np.fromiter(parent, np.int64)
    renamed[olds] = [root(old) for old in olds.tolist()]
    return renamed[labels]


def group_of(
    ids: Sequence[str],
    take: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    rows: NDArray[np.int64],
    keep: DuplicateKeep,
    contents: NDArray[np.int64] | None = None,
) -> DuplicateGroup:
    """The group of some rows (ascending): its first or its most central member represents it.

    Args:
        ids, take, contents: as in MatrixView.
    """
    if len(rows) == 1:
        image_id = ids[int(rows[0])]
        return DuplicateGroup(image_id, (DuplicateMember(image_id, 1.0),))
    parts = [rows[start : start + _ROWS] for start in range(0, len(rows), _ROWS)]
    chosen = 0
    if keep == "central":
        # The sum of a member's similarities to all members is its product with the sum of all.
        center = np.sum([unit_rows(take(part)).sum(axis=0) for part in parts], axis=0)  # [D]
        means = np.concatenate([unit_rows(take(part)) @ center for part in parts]) / len(rows)  # [m]
        chosen = int(np.argmax(np.round(means, 12)))
    representative = unit_rows(take(rows[chosen : chosen + 1]))[0]
    similar = np.concatenate([unit_rows(take(part)) @ representative for part in parts])
    similar = np.clip(np.round(similar, 12), -1.0, 1.0)
    if contents is not None and contents[rows[chosen]] >= 0:
        similar[contents[rows] == contents[rows[chosen]]] = 1.0
    similar[chosen] = 1.0
    members = tuple(
        DuplicateMember(ids[row], float(value)) for row, value in zip(rows.tolist(), similar.tolist(), strict=True)
    )
    return DuplicateGroup(ids[int(rows[chosen])], members)
