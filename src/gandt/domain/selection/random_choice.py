# SPDX-License-Identifier: GPL-3.0-or-later
"""random: a uniform draw, the yardstick for everything else."""

from __future__ import annotations

import numpy as np

from gandt.domain.progress import Progress
from gandt.domain.selection.diversity import take_allowed
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem


class RandomChoice:
    """Draws uniformly without replacement."""

    info = StrategyInfo("random", "Draw uniformly: unbiased, and the yardstick for the others.")

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """A uniform draw of the open images, ranked in the order drawn."""
        yield Progress("picking", 0, count)
        choices = draw(problem, np.flatnonzero(problem.open).tolist(), count)
        return Chosen(self.info.name, "drawn uniformly", choices)


def draw(problem: Problem, positions: list[int], count: int) -> list[Choice]:
    """A uniform draw of `count` of the positions, as far as the groups allow."""
    order = generator(problem.seed, problem.round, Stream.RANDOM).permutation(np.array(positions, np.int64))
    return [Choice(p, 0.0) for p in take_allowed(problem.pool.ids, order.tolist(), problem.quota, count)]
