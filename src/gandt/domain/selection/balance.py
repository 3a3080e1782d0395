# SPDX-License-Identifier: GPL-3.0-or-later
"""balance: so many images of each class, as well as the labels so far can tell them apart."""

from __future__ import annotations

from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.diversity import ranked, take_diverse
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem, score_pool
from gandt.domain.selection.target_model import fit_target, has_negatives, weak_negatives


class Balance:
    """find-more for each class in turn, the rarest first; without budgets the count evens the classes out."""

    info = StrategyInfo("balance", "Bring the classes to the numbers you ask for.", needs_labels=True)

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """Picks by class, one of each class in turn."""
        budgets = self._budgets(problem, count)
        by_class: list[list[Choice]] = []
        unmet = []
        for name, budget in budgets:
            if not problem.training.having([name]).any():
                unmet.append(name)
                continue
            yield Progress("fitting", len(by_class), len(budgets))
            weak = None
            if not has_negatives(problem.training, [name]):
                weak = weak_negatives(problem.pool, problem.seed, problem.round)
            model = fit_target(problem.training, [name], problem.space, problem.seed, problem.round, weak)
            scores = yield from score_pool(problem, model)
            picked = take_diverse(problem.pool, ranked(scores, problem.open), problem.quota, budget)
            problem.open[picked] = False
            by_class.append([Choice(p, float(scores[p])) for p in picked])
        if unmet:
            problem.warnings.append(f"no labeled image carries {', '.join(unmet)}: nothing could be looked for")
        turns = max((len(choices) for choices in by_class), default=0)
        choices = [choices[turn] for turn in range(turns) for choices in by_class if turn < len(choices)]
        asked = ", ".join(f"{name} {budget}" for name, budget in budgets)
        return Chosen(self.info.name, f"likeliest images of each class ({asked})", choices[:count])

    def _budgets(self, problem: Problem, count: int) -> list[tuple[str, int]]:
        """Class and images, scarcest class first; together at most `count`."""
        names = problem.targets or tuple(name for name in problem.training.names if name != problem.other)
        have = {name: int(problem.training.having([name]).sum()) for name in {*names, *problem.per_class}}
        if problem.per_class:
            asked = sorted(problem.per_class.items(), key=lambda item: (have[item[0]], item[0]))
            budgets: list[tuple[str, int]] = []
            for name, budget in asked:
                budgets.append((name, min(budget, count - sum(given for _, given in budgets))))
            return [(name, budget) for name, budget in budgets if budget > 0]
        if not names:
            raise InvalidInput(
                "strategy balance needs classes",
                field="per_class_count",
                reason="NO_CLASSES",
                fix="name a count by class",
            )
        given = dict.fromkeys(sorted(names), 0)
        for _ in range(min(count, 1_000_000)):
            scarcest = min(given, key=lambda name: (have[name] + given[name], name))
            given[scarcest] += 1
        return sorted(((n, g) for n, g in given.items() if g), key=lambda item: (have[item[0]], item[0]))
