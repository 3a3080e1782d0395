# SPDX-License-Identifier: GPL-3.0-or-later
"""Dawid-Skene in plain Python with crowd-kit's clip, order of steps and stop rule; the reference for the fast one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

Row = tuple[str, str, str]


def posteriors(rows: Sequence[Row], classes: Sequence[str], iterations: int = 100) -> dict[str, list[float]]:
    """Probability of each class by image."""
    by_image: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for image, worker, label in rows:
        by_image[image].append((worker, label))
    p = {
        image: [sum(label == c for _, label in votes) / len(votes) for c in classes]
        for image, votes in by_image.items()
    }
    prior, error = _estimate(rows, p, classes)
    bound = -math.inf
    for _ in range(iterations):
        for image, votes in by_image.items():
            score = [
                math.log2(prior[k]) + sum(math.log2(error[vote][k]) for vote in votes) for k in range(len(classes))
            ]
            weights = [2 ** (s - max(score)) for s in score]
            p[image] = [w / sum(weights) for w in weights]
        prior, error = _estimate(rows, p, classes)
        new = 0.0
        for image, worker, label in rows:
            new += sum(
                p[image][k] * (math.log(error[worker, label][k]) + math.log(prior[k])) for k in range(len(classes))
            )
        new -= sum(q * math.log(q) for row in p.values() for q in row if q > 0)
        new /= len(rows)
        if new - bound < 1e-5:
            break
        bound = new
    return p


def _estimate(
    rows: Sequence[Row], p: dict[str, list[float]], classes: Sequence[str]
) -> tuple[list[float], dict[tuple[str, str], list[float]]]:
    counts: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0] * len(classes))
    for image, worker, label in rows:
        counts[worker, label] = [a + b for a, b in zip(counts[worker, label], p[image], strict=True)]
    clipped = {key: [max(value, 1e-10) for value in values] for key, values in counts.items()}
    totals: defaultdict[str, list[float]] = defaultdict(lambda: [0.0] * len(classes))
    for (worker, _), values in clipped.items():
        totals[worker] = [a + b for a, b in zip(totals[worker], values, strict=True)]
    error = {
        (worker, label): [a / b for a, b in zip(values, totals[worker], strict=True)]
        for (worker, label), values in clipped.items()
    }
    prior = [sum(row[k] for row in p.values()) / len(p) for k in range(len(classes))]
    return prior, error
