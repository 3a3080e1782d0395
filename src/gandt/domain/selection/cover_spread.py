# SPDX-License-Identifier: GPL-3.0-or-later
"""cover-spread: each pick is the image farthest from everything labeled or picked (k-center)."""

from __future__ import annotations

import numpy as np

from gandt.domain.progress import Progress
from gandt.domain.selection.cover import candidates_of, rest_of
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem

MAX_PICKS = 5_000
_BLOCK = 256


class CoverSpread:
    """Greedy k-center: the pool's farthest image from its nearest label or pick, again and again.

    Good for a core set without gaps or repeats; few picks of it are typical, so it teaches a first model less than
    cover does (benchmarks/README.md, "Selection").

    Source:
        T. F. Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; O. Sener, S. Savarese, "Active
        Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018.
    """

    info = StrategyInfo("cover-spread", "Leave no gap: spread picks to the pool's edges, without repeats (k-center).")

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """Farthest first; without labels the first is the image nearest to the pool's center."""
        rng = generator(problem.seed, problem.round, Stream.CANDIDATES)
        candidates = candidates_of(problem, count, rng)
        projected = problem.space.project(problem.pool.take(candidates))  # [C, K]
        nearest = np.full(len(candidates), -1.0)  # cosine to the nearest label or pick
        for start in range(0, len(problem.training), _BLOCK):
            known = problem.space.project(problem.training.vectors[start : start + _BLOCK])
            nearest = np.maximum(nearest, (projected @ known.T).max(axis=1))
        left = np.ones(len(candidates), bool)
        choices: list[Choice] = []
        while left.any() and len(choices) < min(count, MAX_PICKS):
            score = np.where(left, np.round(1.0 - nearest, 9), -np.inf)
            if not choices and not len(problem.training):
                score = np.round(projected @ projected.mean(axis=0), 9)
            row = int(np.argmax(score))
            left[row] = False
            image = problem.pool.ids[candidates[row]]
            if not problem.quota.allows(image):
                continue
            problem.quota.take(image)
            choices.append(Choice(int(candidates[row]), float(1.0 - nearest[row])))
            nearest = np.maximum(nearest, projected @ projected[row])
            if len(choices) % 100 == 0:
                yield Progress("picking", len(choices), count)
        choices += rest_of(problem, choices, count - len(choices), rng)
        return Chosen(self.info.name, "each image is the one farthest from all labeled or picked ones", choices)
