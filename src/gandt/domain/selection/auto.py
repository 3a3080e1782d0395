# SPDX-License-Identifier: GPL-3.0-or-later
"""auto: the strategy that fits what is known so far, and why."""

from __future__ import annotations

from dataclasses import replace

from gandt.domain.selection.balance import Balance
from gandt.domain.selection.cover import Cover
from gandt.domain.selection.find_more import FindMore
from gandt.domain.selection.improve_model import ImproveModel
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Chosen, Problem, Strategy


class Auto:
    """Chooses by the labels at hand and by what was asked for."""

    info = StrategyInfo("auto", "Choose by what is known so far, and say why.")

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """The picks of the strategy that fits; the explanation says which and why."""
        strategy, why = self._fitting(problem)
        chosen = yield from strategy.choose(problem, count)
        return replace(chosen, explanation=f"auto chose {strategy.info.name} because {why}; {chosen.explanation}")

    def _fitting(self, problem: Problem) -> tuple[Strategy, str]:
        training = problem.training
        if not len(training):
            return Cover(), "nothing is labeled yet"
        if problem.per_class:
            return Balance(), "numbers by class are asked for"
        if problem.targets and training.having(problem.targets).any():
            return FindMore(), f"{' and '.join(problem.targets)} is wanted and examples are known"
        if problem.targets:
            return Cover(), f"no image labeled {' or '.join(problem.targets)} is known yet"
        if len(training.names) >= 2:
            return ImproveModel(), "several classes are known and none is wanted more than the others"
        return Cover(), "only one label is known"
