# SPDX-License-Identifier: GPL-3.0-or-later
"""cover-typical: the most typical image of each cluster that holds no label yet (TypiClust)."""

from __future__ import annotations

import numpy as np

from gandt.domain.progress import Progress
from gandt.domain.selection.cover import candidates_of, rest_of
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.pool import Matrix, Positions
from gandt.domain.selection.records import StrategyInfo
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem

MAX_CLUSTERS = 500
NEIGHBORS = 20
SMALLEST = 5  # clusters up to this size are noise; they come last
_SWEEPS = 20


class CoverTypical:
    """Clusters pool and labels together, and takes of the largest clusters without labels the most typical image.

    Source:
        G. Hacohen, A. Dekel, D. Weinshall, "Active Learning on a Budget: Opposite Strategies Suit High and Low
        Budgets" (TypiClust), ICML 2022: min(labels + batch, 500) clusters by k-means, typicality as the mean similarity
        to the 20 nearest images of the cluster.
    """

    info = StrategyInfo(
        "cover-typical", "Cover the pool with the most typical image of each kind: a safe first batch (TypiClust)."
    )

    def choose(self, problem: Problem, count: int) -> Steps[Chosen]:
        """One typical image a cluster, clusters with fewest labels first, then the larger ones."""
        rng = generator(problem.seed, problem.round, Stream.CANDIDATES)
        candidates = candidates_of(problem, count, rng)
        known = problem.space.project(problem.training.vectors[:MAX_CLUSTERS])
        vectors = np.concatenate([known, problem.space.project(problem.pool.take(candidates))])
        clusters = min(len(known) + count, MAX_CLUSTERS, len(vectors))
        yield Progress("clustering", 0, 1)
        cluster = cluster_of(vectors, clusters, rng)
        yield Progress("clustering", 1, 1)
        members: list[list[tuple[float, int]]] = []
        order: list[tuple[int, int, int, int]] = []
        for number in range(clusters):
            rows = np.flatnonzero(cluster == number)
            labels = int((rows < len(known)).sum())
            inside = rows[rows >= len(known)]
            typical = _typicality(vectors[rows])[len(rows) - len(inside) :]
            members.append(sorted((-score, int(row)) for score, row in zip(typical.tolist(), inside, strict=True)))
            order.append((int(len(rows) <= SMALLEST), labels, -len(rows), number))
        order.sort()
        choices: list[Choice] = []
        for turn in range(max((len(some) for some in members), default=0)):
            for *_, number in order:
                if len(choices) == count or turn >= len(members[number]):
                    continue
                negative, row = members[number][turn]
                position = int(candidates[row - len(known)])
                if problem.quota.allows(problem.pool.ids[position]):
                    problem.quota.take(problem.pool.ids[position])
                    choices.append(Choice(position, -negative))
        choices += rest_of(problem, choices, count - len(choices), rng)
        return Chosen(self.info.name, f"the most typical image of each of {clusters} clusters", choices)


def cluster_of(vectors: Matrix, count: int, rng: np.random.Generator) -> Positions:
    """i64[N] cluster of each of f64[N, K] unit vectors, by spherical k-means from `count` of them.

    Source:
        I. S. Dhillon, D. S. Modha, "Concept decompositions for large sparse text data using clustering", 2001; starts
        drawn far from each other as in D. Arthur, S. Vassilvitskii, "k-means++", 2007.
    """
    if not count:
        return np.zeros(len(vectors), np.int64)
    first = int(rng.integers(len(vectors)))
    centers, far = [first], 1.0 - vectors @ vectors[first]
    for _ in range(count - 1):
        weight = np.round(np.maximum(far, 0.0), 9)
        total = weight.cumsum()
        # A draw in proportion to the distance; equal images have none left.
        row = int(np.searchsorted(total, rng.random() * total[-1], side="right")) if total[-1] > 0 else 0
        row = min(row, len(vectors) - 1)
        centers.append(row)
        far = np.minimum(far, 1.0 - vectors @ vectors[row])
    means = vectors[centers]
    cluster = np.full(len(vectors), -1, np.int64)
    for _ in range(_SWEEPS):
        nearest = np.argmax(np.round(vectors @ means.T, 9), axis=1)
        if np.array_equal(nearest, cluster):
            break
        cluster = nearest
        sums = np.zeros_like(means)
        np.add.at(sums, cluster, vectors)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        means = np.where(norms > 1e-12, sums / np.maximum(norms, 1e-12), means)  # an empty cluster stays where it is
    return np.asarray(cluster, np.int64)


def _typicality(vectors: Matrix) -> Matrix:
    """f64[n] mean similarity to the 20 nearest others of f64[n, K]; 0 for an image on its own."""
    count = len(vectors)
    if count < 2:
        return np.zeros(count)
    keep = min(NEIGHBORS, count - 1)
    out = np.empty(count)
    for start in range(0, count, 1_024):
        similar = vectors[start : start + 1_024] @ vectors.T
        similar[np.arange(len(similar)), np.arange(start, start + len(similar))] = -np.inf  # not one's own neighbor
        out[start : start + len(similar)] = np.partition(similar, count - keep, axis=1)[:, count - keep :].mean(axis=1)
    return np.asarray(np.round(out, 9))
