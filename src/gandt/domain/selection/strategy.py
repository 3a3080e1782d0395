# SPDX-License-Identifier: GPL-3.0-or-later
"""The interface of strategies, and what they are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gandt.domain.progress import Progress
from gandt.domain.selection.diversity import GroupQuota
from gandt.domain.selection.kernel_logistic import Model
from gandt.domain.selection.pool import Pool
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.space import Space, fit_space
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.training import TrainingSet


@dataclass
class Problem:
    """One request as a strategy sees it.

    Attributes:
        pool: unlabeled images that were not excluded.
        training: labeled images with vectors.
        targets: labels to find; () when none were named.
        other: the label that means "none of these"; "" when there is none.
        per_class: class name to images, for balance.
        open: bool[N], positions that may still be picked.
        again: bool[L], labeled images that may be asked once more; all False but for relabel.
        quota: picks that near-duplicate groups still allow.
        warnings: what the caller should know; strategies add to it.
        given_space: a space fitted before, for replays; None fits one when it is needed.
    """

    pool: Pool
    training: TrainingSet
    targets: tuple[str, ...]
    other: str
    seed: int
    round: int
    open: NDArray[np.bool_]
    again: NDArray[np.bool_]
    quota: GroupQuota
    per_class: Mapping[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    given_space: Space | None = None

    @cached_property
    def space(self) -> Space:
        """The representation that rankings work in."""
        return self.given_space or fit_space(self.pool, self.training, self.seed)

    @cached_property
    def wanted(self) -> tuple[str, ...]:
        """The named targets, or else every known label but other."""
        return self.targets or tuple(name for name in self.training.names if name != self.other and self.other)


@dataclass(frozen=True, slots=True)
class Choice:
    """A picked position of the pool with its score; `labeled` makes it a row of the training set instead."""

    position: int
    score: float
    labeled: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """A strategy's picks, best first, the strategy really used, and why."""

    strategy: str
    explanation: str
    choices: list[Choice]


class Strategy(Protocol):
    """A way of choosing. Pure: the same problem gives the same picks."""

    @property
    def info(self) -> StrategyInfo:
        """Name, purpose and needs."""
        ...

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """Picks at most `count` open positions.

        Raises:
            InvalidInput: the request lacks what the strategy cannot do without.
        """
        ...


def score_pool(problem: Problem, model: Model) -> Steps[NDArray[np.float64]]:
    """f64[N] the model's score of every pool image; one pass over the pool."""
    scores = np.full(len(problem.pool), -np.inf)
    done = 0
    for positions, vectors in problem.pool.blocks():
        scores[positions] = model.score(problem.space.project(vectors))
        done += len(positions)
        yield Progress("scoring", done, len(problem.pool))
    return scores
