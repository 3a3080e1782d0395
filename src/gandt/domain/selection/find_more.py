# SPDX-License-Identifier: GPL-3.0-or-later
"""find-more: images most likely to carry a wanted label, the default when targets are named."""

from __future__ import annotations

from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.cover import Cover
from gandt.domain.selection.diversity import ranked, take_diverse
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem, score_pool
from gandt.domain.selection.target_model import fit_target, has_negatives, weak_negatives


class FindMore:
    """Ranks by a kernel logistic model of wanted against all other labeled images, posterior probabilities as weights.

    Source:
        The finding that ranking by likelihood, with "Other" as negatives and re-ranked each round, finds rare classes
        with the fewest labels (uncertainty sampling needs several times more).
    """

    info = StrategyInfo(
        "find-more",
        "Find more images of the wanted labels with the fewest labels.",
        needs_labels=True,
        needs_targets=True,
    )

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """The likeliest images, near-duplicates put off."""
        wanted = require_wanted(problem, self.info.name)
        if not problem.training.having(wanted).any():
            chosen = yield from Cover().choose(problem, count)
            why = f"no image labeled {' or '.join(wanted)} is known yet, so the batch covers the pool instead"
            return Chosen(chosen.strategy, f"{why}; {chosen.explanation}", chosen.choices)
        yield Progress("fitting", 0, 1)
        weak = None
        why = f"ranked by likeness to {' or '.join(wanted)} against the other labeled images"
        if not has_negatives(problem.training, wanted):
            weak = weak_negatives(problem.pool, problem.seed, problem.round)
            why = f"ranked by likeness to {' or '.join(wanted)} against a sample of the pool"
            problem.warnings.append(
                "every labeled image is wanted, so a sample of the pool stands in for the rest; label some others too"
            )
        model = fit_target(problem.training, wanted, problem.space, problem.seed, problem.round, weak)
        scores = yield from score_pool(problem, model)
        picked = take_diverse(problem.pool, ranked(scores, problem.open), problem.quota, count)
        return Chosen(self.info.name, why, [Choice(p, float(scores[p])) for p in picked])


def require_wanted(problem: Problem, strategy: str) -> tuple[str, ...]:
    """The wanted labels.

    Raises:
        InvalidInput: none are named and they cannot be derived from an other label.
    """
    if not problem.wanted:
        raise InvalidInput(
            f"strategy {strategy} needs labels to look for",
            field="target_labels",
            reason="NO_TARGETS",
            fix="name them, as in --target LABEL",
        )
    return problem.wanted
