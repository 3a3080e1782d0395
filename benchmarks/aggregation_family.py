# SPDX-License-Identifier: GPL-3.0-or-later
"""Crowds whose truth is known: the family of settings that the aggregation benchmarks share.

A setting is drawn from its number, so the family is the same on every machine. The first 96 numbers chose between
methods and their constants ("choose", "second"), the next 48 are reported ("report"). Settings vary in classes (2 to
20), answers an image (2 to 10), size, share of spammers and adversaries, bias, images that mislead everybody alike, and
the way pages are handed out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CLASSES = (2, 2, 3, 4, 5, 8, 12, 20)
EACH = (2, 3, 5, 5, 7, 10)
IMAGES = (200, 500, 1000, 3000)
PARTS = ("choose", "second", "report")
EACH_PART = 48
PAGE = 20


@dataclass(frozen=True, slots=True)
class Setting:
    """One member of the family.

    Attributes:
        number: also the seed.
        images, classes: sizes; `each` answers an image, on average.
        workers: that could answer.
        spammers, one_label, adversaries, biased: shares of the workers.
        skill: parameters of the Beta distribution of honest workers' accuracy.
        misleading: share of images on which honest workers lean to one wrong class.
        skew: concentration of the Dirichlet distribution of classes; small is skewed.
        pages: images come in pages of 20 that one worker answers whole, early pages richer in class 0.
    """

    number: int
    images: int
    classes: int
    each: int
    workers: int
    spammers: float
    one_label: float
    adversaries: float
    biased: float
    skill: tuple[float, float]
    misleading: float
    skew: float
    pages: bool


@dataclass(frozen=True, slots=True)
class Crowd:
    """Answers without repeats: i64[V] item, worker, label (ascending by item); i64[I] truth."""

    setting: Setting
    item: NDArray[np.int64]
    worker: NDArray[np.int64]
    label: NDArray[np.int64]
    truth: NDArray[np.int64]


def family(part: str = "report") -> list[Setting]:
    """The settings of a part, one of `PARTS`."""
    start = PARTS.index(part) * EACH_PART
    return [_setting(number) for number in range(start, start + EACH_PART)]


def _setting(number: int) -> Setting:
    rng = np.random.default_rng([2026, number])
    images = int(rng.choice(IMAGES))
    each = int(rng.choice(EACH))
    return Setting(
        number=number,
        images=images,
        classes=int(rng.choice(CLASSES)),
        each=each,
        workers=int(np.clip(images * each / rng.choice([25, 60, 150, 400]), each + 3, 400)),
        spammers=float(rng.choice([0, 0.12, 0.12, 0.3])),
        one_label=float(rng.choice([0, 0.05, 0.1])),
        adversaries=float(rng.choice([0, 0.03, 0.08])),
        biased=float(rng.choice([0, 0.1, 0.3, 0.6])),
        skill=((8.0, 2.0), (5.0, 2.5), (14.0, 2.0))[int(rng.integers(3))],
        misleading=float(rng.choice([0, 0, 0.05, 0.12])),
        skew=float(rng.choice([1.0, 5.0, 20.0])),
        pages=bool(rng.random() < 0.35),
    )


def plant(setting: Setting) -> Crowd:
    """Draws the crowd of a setting."""
    s, rng = setting, np.random.default_rng([77, setting.number])
    prior = rng.dirichlet(np.full(s.classes, s.skew))
    truth = rng.choice(s.classes, s.images, p=prior)
    if s.pages:  # wanted images are asked first
        truth = truth[np.argsort(rng.random(s.images) + 0.8 * (truth != 0))]
    item, worker = _pages(s, rng) if s.pages else _scattered(s, rng)
    confusion = _confusions(s, rng)
    seen = truth[item]
    misleads = rng.random(s.images) < s.misleading
    decoy = (truth + rng.integers(1, s.classes, s.images)) % s.classes
    lured = misleads[item] & (rng.random(len(item)) < 0.65)
    chances = confusion[worker, np.where(lured, decoy[item], seen)].cumsum(axis=1)
    label = np.minimum((rng.random(len(item))[:, None] > chances).sum(axis=1), s.classes - 1)
    return Crowd(s, item, worker, label, truth)


def _scattered(s: Setting, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each image goes to workers drawn by a long-tailed activity."""
    activity = rng.pareto(1.5, s.workers) + 0.3
    sizes = np.clip(rng.poisson(s.each, s.images), 1, s.workers) if s.number % 3 == 0 else np.full(s.images, s.each)
    item = np.repeat(np.arange(s.images), sizes)
    keys = rng.exponential(size=(s.images, s.workers)) / activity
    order = np.argsort(keys, axis=1)
    place = np.arange(len(item)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return item, order[item, place]


def _pages(s: Setting, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each page of images goes whole to workers, who take a few pages each."""
    pages = -(-s.images // PAGE)
    workers = max(s.each + 2, min(s.workers, pages * s.each // 3))
    of_page = np.argsort(rng.random((pages, workers)), axis=1)[:, : s.each]
    item = np.repeat(np.arange(s.images), s.each)
    return item, of_page[item // PAGE, np.tile(np.arange(s.each), s.images)]


def _confusions(s: Setting, rng: np.random.Generator) -> NDArray[np.float64]:
    """f64[W, K, K]: honest workers err towards similar classes; the others as their kind does."""
    k = s.classes
    accuracy = np.clip(rng.beta(*s.skill, s.workers), 0.3, 0.99)
    near = rng.gamma(0.6, size=(k, k)) * (1 - np.eye(k)) + 1e-3 * (1 - np.eye(k))
    near /= near.sum(axis=1, keepdims=True)
    matrix = accuracy[:, None, None] * np.eye(k) + (1 - accuracy)[:, None, None] * near
    kind = rng.permutation(s.workers) / s.workers
    edges = np.cumsum([s.spammers, s.one_label, s.adversaries, s.biased])
    for w in range(s.workers):
        if kind[w] < edges[0]:
            matrix[w] = rng.dirichlet(np.full(k, 3.0))  # answers without looking
        elif kind[w] < edges[1]:
            matrix[w] = 0.02 / k
            matrix[w, :, rng.integers(k)] += 0.98
        elif kind[w] < edges[2]:
            matrix[w] = 0.1 * np.eye(k) + 0.9 * (1 - np.eye(k)) / max(k - 1, 1)
        elif kind[w] < edges[3]:  # takes one class for another, as the instructions did not say it
            wrong = rng.integers(k)
            matrix[w] = 0.6 * matrix[w]
            matrix[w, :, wrong] += 0.4
    return matrix
