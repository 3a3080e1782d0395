# SPDX-License-Identifier: GPL-3.0-or-later
"""relabel: a new image, or one more answer for an old one, in one queue by what an answer tells."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gandt.domain.progress import Progress
from gandt.domain.selection.class_models import ClassModels, fit_classes
from gandt.domain.selection.cover import Cover
from gandt.domain.selection.diversity import ranked, take_diverse
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem
from gandt.domain.selection.training import TrainingSet

NAME = "relabel"
WORKER_ACCURACY = 0.8  # of one more answer; it scales all bits alike, so the order hardly depends on it
SUREST = 0.999  # a label is never taken to be surer: the model may still contradict it
LEAST_BITS = 0.01  # labels surer than 99 % are not paid for again
FOLDS = 5


class Relabel:
    """Ranks new and labeled images together by the bits that one more answer is expected to give.

    How sure an old image's label is comes from two witnesses, the aggregation's posterior and a model that did not see
    the image; their odds multiply. So a label that workers disagreed on and one that all its neighbors contradict both
    come up. A new image has the model alone. The bits are the mutual information between the truth (the likeliest
    label is right, or not) and an answer that is right with a chance of 0.8.

    Source:
        One score for new and old images as in H. W. Goh, J. Mueller, "ActiveLab: Active Learning with Re-Labeling by
        Multiple Annotators", arXiv 2301.11856; D. V. Lindley, "On a measure of the information provided by an
        experiment", 1956.
    """

    info = StrategyInfo(
        NAME, "Ask where an answer tells most: about a new image, or once more about a doubtful one.", needs_labels=True
    )

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """The images whose next answer tells most; `Choice.labeled` marks old ones."""
        pool, training = problem.pool, problem.training
        yield Progress("fitting", 0, FOLDS + 1)
        models = fit_classes(training, problem.space, problem.seed, problem.round) if len(training) else None
        if models is None:
            chosen = yield from Cover().choose(problem, count)
            why = "fewer than two labels can be told apart, so nothing can be doubted yet"
            return Chosen(chosen.strategy, f"{why}; {chosen.explanation}", chosen.choices)
        new = np.full(len(pool), -np.inf)
        done = 0
        for positions, vectors in pool.blocks():
            new[positions] = information(_sure(models.chances(problem.space.project(vectors))).max(axis=1))
            done += len(positions)
            yield Progress("scoring", done, len(pool))
        fresh = take_diverse(pool, ranked(new, problem.open), problem.quota, count)
        sure = yield from _label_confidence(problem)
        bits = np.round(information(sure), 6)
        doubtful = np.flatnonzero(problem.again & (bits >= LEAST_BITS))
        queue = [(-round(float(new[p]), 6), pool.ids[p], p, False) for p in fresh]
        queue += [(-float(bits[r]), training.ids[r], r, True) for r in doubtful.tolist()]
        best = sorted(queue)[:count]
        again = sum(labeled for *_, labeled in best)
        why = f"bits that one more answer is expected to give: {len(best) - again} new images, {again} asked again"
        return Chosen(NAME, why, [Choice(row, -score, labeled) for score, _, row, labeled in best])


def information(sure: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[N] bits in [0, 1] that one answer gives when the likeliest label is right with a chance of f64[N] in [0, 1].

    >>> information(np.array([0.5, 1.0])).round(2).tolist()
    [0.28, 0.0]
    """
    agreeing = sure * WORKER_ACCURACY + (1.0 - sure) * (1.0 - WORKER_ACCURACY)
    return np.asarray(_entropy(agreeing) - _entropy(np.full_like(sure, WORKER_ACCURACY)))


def _label_confidence(problem: Problem) -> Steps[NDArray[np.float64]]:
    """f64[L] chance that an image's first label is right, from its posterior and from models that did not see it."""
    training = problem.training
    posterior = np.clip(training.probabilities, 1.0 - SUREST, SUREST)
    odds = np.log(posterior / (1.0 - posterior))
    fold = np.arange(len(training)) % FOLDS  # by id: no image can sway its own judgment, nothing else matters
    for number in range(FOLDS):
        seen, rows = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        models = fit_classes(_part(training, seen), problem.space, problem.seed, problem.round) if len(seen) else None
        if models is not None:
            odds[rows] += _label_odds(models, training, rows, problem)
        yield Progress("checking", number + 1, FOLDS)
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * odds)))


def _label_odds(
    models: ClassModels, training: TrainingSet, rows: NDArray[np.int64], problem: Problem
) -> NDArray[np.float64]:
    chances = np.clip(_sure(models.chances(problem.space.project(training.vectors[rows]))), 1.0 - SUREST, SUREST)
    column = {name: number for number, name in enumerate(models.names)}
    # A label that the model does not know has no second witness.
    own = np.array(
        [
            max((chances[row, column[name]] for name in training.labels[r] if name in column), default=0.5)
            for row, r in enumerate(rows.tolist())
        ]
    )
    return np.asarray(np.log(own / (1.0 - own)))


def _sure(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[N, C] chances against the strongest rival label; each model is one against all, so rows do not sum to 1."""
    top = np.sort(chances, axis=1)[:, -2:]  # [N, 2]
    rival = np.where(chances >= top[:, 1:], top[:, :1], top[:, 1:])
    return np.asarray(chances / np.maximum(chances + rival, 1e-12))


def _part(training: TrainingSet, rows: NDArray[np.int64]) -> TrainingSet:
    labels = tuple(training.labels[row] for row in rows.tolist())
    return TrainingSet(
        ids=tuple(training.ids[row] for row in rows.tolist()),
        vectors=training.vectors[rows],
        labels=labels,
        probabilities=training.probabilities[rows],
        names=tuple(sorted({name for some in labels for name in some})),
    )


def _entropy(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(chance, 1e-12, 1.0 - 1e-12)
    return np.asarray(-(p * np.log2(p) + (1.0 - p) * np.log2(1.0 - p)))
