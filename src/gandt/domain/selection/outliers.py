# SPDX-License-Identifier: GPL-3.0-or-later
"""outliers: images unlike everything else, to find junk, broken photos and unknown kinds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.progress import Progress
from gandt.domain.selection.diversity import ranked, take_diverse
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem

WITNESSES = 3_000
NEIGHBORS = 10


class Outliers:
    """Ranks by one minus the mean cosine to the 10 nearest images of a sample of the pool (low typicality).

    Source:
        Typicality as in G. Hacohen, A. Dekel, D. Weinshall, "Active Learning on a Budget" (TypiClust), ICML 2022,
        turned round.
    """

    info = StrategyInfo(
        "outliers", "Find what looks like nothing else in the pool: junk, broken photos, unknown kinds."
    )

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """The least typical images."""
        pool = problem.pool
        sampled = pool.sample(WITNESSES, generator(problem.seed, problem.round, Stream.CANDIDATES))
        witnesses = problem.space.project(pool.take(sampled))  # [W, K]
        place = np.full(len(pool), -1)  # column of an image that is a witness itself
        place[sampled] = np.arange(len(sampled))
        scores = np.full(len(pool), -np.inf)
        done = 0
        for positions, vectors in pool.blocks():
            similar = problem.space.project(vectors) @ witnesses.T  # [n, W]
            own = np.flatnonzero(place[positions] >= 0)
            similar[own, place[positions[own]]] = -np.inf  # no image is its own neighbor
            scores[positions] = 1.0 - _mean_of_largest(similar, NEIGHBORS)
            done += len(positions)
            yield Progress("scoring", done, len(pool))
        picked = take_diverse(pool, ranked(scores, problem.open), problem.quota, count)
        why = f"ranked by distance to the {NEIGHBORS} nearest images of the pool"
        return Chosen(self.info.name, why, [Choice(p, float(scores[p])) for p in picked])


def _mean_of_largest(similar: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """f64[n] mean of the `count` largest finite numbers of each row; -1 for a row that has none."""
    keep = min(count, similar.shape[1])
    if not keep:
        return np.full(len(similar), -1.0)
    top = np.partition(similar, similar.shape[1] - keep, axis=1)[:, similar.shape[1] - keep :]
    finite = np.isfinite(top)
    total = np.where(finite, top, 0.0).sum(axis=1)
    return np.where(finite.any(axis=1), total / np.maximum(finite.sum(axis=1), 1), -1.0)
