# SPDX-License-Identifier: GPL-3.0-or-later
"""find-similar: images like the examples, by the difference of two means (Rocchio)."""

from __future__ import annotations

import numpy as np

from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.diversity import ranked, take_diverse
from gandt.domain.selection.find_more import require_wanted
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem


class FindSimilar:
    """Ranks by the cosine to (weighted mean of the wanted) - (mean of the others, or of the pool).

    Nothing is fitted, so a handful of examples is enough, and one wrong label moves the ranking only a little.

    Source:
        J. J. Rocchio, "Relevance feedback in information retrieval", 1971.
    """

    info = StrategyInfo(
        "find-similar", "Find images that look like a few examples.", needs_labels=True, needs_targets=True
    )

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """The most similar images, near-duplicates put off."""
        wanted = require_wanted(problem, self.info.name)
        if not problem.training.having(wanted).any():
            raise InvalidInput(
                f"no labeled image with a vector carries {' or '.join(wanted)}",
                field="target_labels",
                reason="NO_EXAMPLES",
                fix="label at least one example first, or use the strategy cover",
            )
        projected = problem.space.project(problem.training.vectors)  # [L, K]
        weight = problem.training.soft(wanted)
        query = weight @ projected / weight.sum()
        against = "the pool"
        if (1.0 - weight).sum() > 0:  # without negatives the center of the pool is the origin already
            query = query - (1.0 - weight) @ projected / (1.0 - weight).sum()
            against = "the other labeled images"
        scores = np.full(len(problem.pool), -np.inf)
        done = 0
        for positions, vectors in problem.pool.blocks():
            scores[positions] = problem.space.project(vectors) @ query
            done += len(positions)
            yield Progress("scoring", done, len(problem.pool))
        picked = take_diverse(problem.pool, ranked(scores, problem.open), problem.quota, count)
        why = f"ranked by similarity to the mean of {' and '.join(wanted)}, less {against}"
        return Chosen(self.info.name, why, [Choice(p, float(scores[p])) for p in picked])
