# SPDX-License-Identifier: GPL-3.0-or-later
"""compat: the original's way, its filter first and then a uniform draw of what remains."""

from __future__ import annotations

import numpy as np

from gandt.domain.progress import Progress
from gandt.domain.selection.compat_filter import NO_THRESHOLD, check_compat, count_farther, threshold_of
from gandt.domain.selection.random_choice import draw
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Chosen, Problem
from gandt.domain.selection.trimmed_distance import TrimmedDistances, label_columns

MIN_PROPORTION = 0.1  # the original's default


class CompatChoice:
    """Draws uniformly from what the original's filter keeps; other images follow only when those run out."""

    info = StrategyInfo("compat", "Choose as the original did: filter, then draw from what remains.", needs_labels=True)

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """A uniform draw of the images that remain."""
        training = problem.training
        check_compat(training.names, problem.other, MIN_PROPORTION)
        side = label_columns(training.ids, training.labels, training.ids, training.vectors)
        measure = TrimmedDistances(side, problem.other)
        farther = np.zeros(len(problem.pool), np.int64)
        done = 0
        for positions, vectors in problem.pool.blocks():
            farther[positions] = count_farther(measure.of(vectors), side.names, problem.other)
            done += len(positions)
            yield Progress("scanning", done, len(problem.pool))
        threshold = threshold_of(farther, len(side.names) - 1, MIN_PROPORTION)
        remaining = farther <= threshold
        why = f"drawn uniformly from the images farther from at most {threshold} labels than from {problem.other}"
        if threshold == NO_THRESHOLD:
            remaining[:] = True
            why = "drawn uniformly: the original's filter keeps nothing here"
            problem.warnings.append(f"no threshold discards {MIN_PROPORTION:g} of the pool, so nothing was filtered")
        return Chosen(self.info.name, why, draw(problem, np.flatnonzero(problem.open & remaining).tolist(), count))
