# SPDX-License-Identifier: GPL-3.0-or-later
"""cover: a batch that represents the whole pool, the default without labels (MaxHerding)."""

from __future__ import annotations

import heapq

import numpy as np

from gandt.domain.progress import Progress
from gandt.domain.selection.diversity import take_allowed
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.kernel_logistic import kernel
from gandt.domain.selection.pool import Positions
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem

CANDIDATES = 6_000  # images that compete; a uniform sample of larger pools
WITNESSES = 3_000  # images that coverage is measured on
MAX_HERDED = 5_000  # beyond it coverage has long been complete, and the rest is drawn uniformly
_BLOCK = 256


class Cover:
    """Greedily adds the image that raises the mean of the pool's largest similarity to any labeled or picked image.

    The gain of an image only shrinks as others are picked, so the lazy greedy search below is exact: an image whose
    fresh gain still tops the heap's stale gains is the best.

    Source:
        W. Bae, J. Noh, D. J. Sutherland, "Generalized Coverage for More Robust Low-Budget Active Learning"
        (MaxHerding), ECCV 2024, arXiv 2407.12212; M. Minoux, "Accelerated greedy algorithms", 1978.
    """

    info = StrategyInfo("cover", "Cover the whole pool evenly: the first batch when nothing is labeled.")

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """Picks that cover what is not covered yet."""
        pool, rng = problem.pool, generator(problem.seed, problem.round, Stream.CANDIDATES)
        herded = min(count, MAX_HERDED)
        candidates = candidates_of(problem, herded, rng)
        witnesses = problem.space.project(pool.take(pool.sample(WITNESSES, rng)))  # [W, K]
        projected = problem.space.project(pool.take(candidates))  # [C, K]
        covered = np.zeros(len(witnesses))
        for start in range(0, len(problem.training), _BLOCK):
            known = problem.space.project(problem.training.vectors[start : start + _BLOCK])
            covered = np.maximum(covered, kernel(witnesses, known).max(axis=1))
        heap: list[tuple[float, int, int]] = []  # (-gain, candidate, picks when it was computed)
        for start in range(0, len(candidates), _BLOCK):
            gains = np.maximum(kernel(witnesses, projected[start : start + _BLOCK]) - covered[:, None], 0.0).mean(
                axis=0
            )
            heap.extend((-_tidy(gain), start + row, 0) for row, gain in enumerate(gains))
            yield Progress("scoring", len(heap), len(candidates))
        heapq.heapify(heap)
        choices: list[Choice] = []
        while heap and len(choices) < herded:
            negative, row, stamp = heapq.heappop(heap)
            image = pool.ids[candidates[row]]
            if not problem.quota.allows(image):
                continue
            column = kernel(witnesses, projected[row : row + 1])[:, 0]
            if stamp < len(choices):
                gain = _tidy(float(np.maximum(column - covered, 0.0).mean()))
                heapq.heappush(heap, (-gain, row, len(choices)))
                continue
            problem.quota.take(image)
            choices.append(Choice(int(candidates[row]), -negative))
            covered = np.maximum(covered, column)
            if len(choices) % 100 == 0:
                yield Progress("picking", len(choices), count)
        choices += rest_of(problem, choices, count - len(choices), rng)
        return Chosen(self.info.name, "each image is the one that covers most of what was not covered yet", choices)


def candidates_of(problem: Problem, count: int, rng: np.random.Generator) -> Positions:
    """i64[C] the open positions that compete for `count` picks: all of them, or a uniform sample of a large pool."""
    open_ = np.flatnonzero(problem.open)
    limit = max(CANDIDATES, 2 * min(count, MAX_HERDED))
    return open_ if len(open_) <= limit else np.sort(rng.choice(open_, limit, replace=False))


def rest_of(problem: Problem, choices: list[Choice], count: int, rng: np.random.Generator) -> list[Choice]:
    """A uniform draw of `count` of what the choices leave."""
    if count <= 0:
        return []
    left = problem.open.copy()
    left[[choice.position for choice in choices]] = False
    order = rng.permutation(np.flatnonzero(left))
    return [Choice(p, 0.0) for p in take_allowed(problem.pool.ids, order.tolist(), problem.quota, count)]


def _tidy(gain: float) -> float:
    return round(float(gain), 9)  # the last bits must not decide between equal images
