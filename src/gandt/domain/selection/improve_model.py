# SPDX-License-Identifier: GPL-3.0-or-later
"""improve-model: labels that teach a classifier most: cover the pool first, then look where classes meet."""

from __future__ import annotations

import numpy as np

from gandt.domain.progress import Progress
from gandt.domain.selection.class_models import fit_classes
from gandt.domain.selection.cover import Cover
from gandt.domain.selection.diversity import ranked
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.pool import Matrix
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem

LABELS_A_CLASS = 10  # below it margins are noise and covering learns faster
CANDIDATES = 20_000
SHORTLIST = 5  # times the batch


class ImproveModel:
    """Cover until there are 10 labels a class, then the smallest margins, spread over clusters.

    Source:
        G. Citovsky et al., "Batch Active Learning at Scale" (Cluster-Margin), NeurIPS 2021; the switch from coverage to
        uncertainty as in I. Mishal, D. Weinshall, "DCoM", arXiv 2407.01804.
    """

    info = StrategyInfo("improve-model", "Teach a classifier most with each label.", needs_labels=True)

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """Covering or uncertain images, as the labels so far ask for."""
        training = problem.training
        models = None
        if len(training) >= LABELS_A_CLASS * len(training.names):
            yield Progress("fitting", 0, 1)
            models = fit_classes(training, problem.space, problem.seed, problem.round)
        if models is None:
            chosen = yield from Cover().choose(problem, count)
            why = f"{len(training)} labels of {len(training.names)} classes are too few for margins"
            return Chosen(self.info.name, f"{why}; {chosen.explanation}", chosen.choices)
        pool = problem.pool
        open_ = np.flatnonzero(problem.open)
        rng = generator(problem.seed, problem.round, Stream.CANDIDATES)
        limit = max(CANDIDATES, SHORTLIST * count)
        candidates = open_ if len(open_) <= limit else np.sort(rng.choice(open_, limit, replace=False))
        margins = np.full(len(pool), -np.inf)
        for start in range(0, len(candidates), 1_024):
            rows = candidates[start : start + 1_024]
            chances = np.sort(models.chances(problem.space.project(pool.take(rows))), axis=1)
            margins[rows] = -(chances[:, -1] - chances[:, -2])  # larger is less certain
            yield Progress("scoring", start + len(rows), len(candidates))
        order = ranked(margins, problem.open)
        shortlist = order[: max(SHORTLIST * count, 1)]
        clusters = _clusters(problem.space.project(pool.take(shortlist)), max(count, 1))
        spread = _round_robin(clusters)
        choices: list[Choice] = []
        for position in [*(int(shortlist[row]) for row in spread), *order[len(shortlist) :].tolist()]:
            if len(choices) == count:
                break
            if problem.quota.allows(pool.ids[position]):
                problem.quota.take(pool.ids[position])
                choices.append(Choice(position, float(margins[position])))
        return Chosen(self.info.name, "uncertain between two classes, spread over the pool", choices)


def _clusters(vectors: Matrix, count: int) -> list[list[int]]:
    """Rows by nearest of `count` centers, chosen farthest first; within a cluster the given order is kept."""
    centers = [0] if len(vectors) else []
    nearest = np.zeros(len(vectors), np.int64)
    best = vectors @ vectors[0] if len(vectors) else np.zeros(0)
    while 0 < len(centers) < min(count, len(vectors)):
        far = int(np.argmin(np.round(best, 9)))
        similar = vectors @ vectors[far]
        closer = similar > best
        nearest[closer], best = len(centers), np.where(closer, similar, best)
        centers.append(far)
        if len(centers) >= 256:
            break
    clusters: list[list[int]] = [[] for _ in centers]
    for row, cluster in enumerate(nearest.tolist()):
        clusters[cluster].append(row)
    return [cluster for cluster in clusters if cluster]


def _round_robin(clusters: list[list[int]]) -> list[int]:
    """One of each cluster in turn, small clusters first, so that rare kinds are not crowded out."""
    ordered = sorted(clusters, key=lambda cluster: (len(cluster), cluster[0]))
    longest = max((len(cluster) for cluster in ordered), default=0)
    return [cluster[turn] for turn in range(longest) for cluster in ordered if turn < len(cluster)]
