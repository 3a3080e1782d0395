# SPDX-License-Identifier: GPL-3.0-or-later
"""Near-duplicates inside one batch: group quotas, and passing over what was just picked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.selection.pool import Matrix, Pool, Positions

NEAR_DUPLICATE = 0.98  # cosine of raw vectors; above it two photos show the same thing
DEPTH = 3  # a batch looks at this many times its size before it takes near-duplicates after all
WINDOW = 1_024


class GroupQuota:
    """How many picks each near-duplicate group still allows.

    Args:
        groups: image id to group id; images without one are on their own.
        limit: picks of one group, at least 1.
    """

    def __init__(self, groups: Mapping[str, str], limit: int) -> None:
        self._groups = groups
        self._limit = limit
        self._taken: Counter[str] = Counter()

    def group_of(self, image_id: str) -> str:
        """The image's group; "" when it is on its own."""
        return self._groups.get(image_id, "")

    def allows(self, image_id: str) -> bool:
        """Whether one more pick fits."""
        group = self.group_of(image_id)
        return not group or self._taken[group] < self._limit

    def take(self, image_id: str) -> None:
        """Counts a pick."""
        if group := self.group_of(image_id):
            self._taken[group] += 1


def ranked(scores: NDArray[np.float64], open_: NDArray[np.bool_]) -> Positions:
    """Open positions, best score first; scores that agree to 1e-6 go by id."""
    positions = np.flatnonzero(open_ & np.isfinite(scores))
    # Rounding keeps the last bits, which depend on the machine's arithmetic, out of the order.
    return positions[np.lexsort((positions, -np.round(scores[positions], 6)))]


def take_diverse(pool: Pool, order: Positions, quota: GroupQuota, count: int) -> list[int]:
    """The first `count` of `order` that the quota allows, near-duplicates of earlier picks put off.

    What was put off is taken when the first `DEPTH * count` of the order hold nothing else; then the order goes on.
    """
    picked: list[int] = []
    put_off: list[int] = []
    recent = np.zeros((0, pool.dim))  # vectors of the latest picks
    near = max(count * DEPTH, 1)
    for start in range(0, min(near, len(order)), WINDOW):
        window = order[start : min(start + WINDOW, near)]
        chosen = _take_window(pool, window, quota, count - len(picked), recent, put_off)
        picked.extend(chosen)
        if len(picked) >= count:
            return picked
        recent = np.concatenate([recent, pool.take(np.array(chosen, np.int64))])[-WINDOW:]
    picked.extend(take_allowed(pool.ids, put_off, quota, count - len(picked)))
    return picked + take_allowed(pool.ids, order[near:], quota, count - len(picked))


def take_allowed(ids: Sequence[str], order: Iterable[int], quota: GroupQuota, count: int) -> list[int]:
    """The first `count` positions of `order` that the quota allows."""
    picked: list[int] = []
    for position in order:
        if len(picked) >= count:
            break
        if quota.allows(ids[position]):
            quota.take(ids[position])
            picked.append(int(position))
    return picked


def _take_window(
    pool: Pool, window: Positions, quota: GroupQuota, count: int, recent: Matrix, put_off: list[int]
) -> list[int]:
    vectors = pool.take(window)
    seen = (vectors @ recent.T).max(axis=1, initial=-1.0) >= NEAR_DUPLICATE  # [W]
    alike = vectors @ vectors.T >= NEAR_DUPLICATE  # [W, W]
    chosen: list[int] = []
    for row, position in enumerate(window.tolist()):
        if len(chosen) >= count:
            break
        if not quota.allows(pool.ids[position]):
            continue
        if seen[row]:
            put_off.append(position)
            continue
        quota.take(pool.ids[position])
        chosen.append(position)
        seen |= alike[row]
    return chosen
