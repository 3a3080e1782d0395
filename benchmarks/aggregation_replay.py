# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers that dynamic overlap saves: planted answers replayed in random order, as the plan asks for them.

    OMP_NUM_THREADS=1 python benchmarks/aggregation_replay.py [--part PART] [--orders 50] [--settings 16] [--only N ...]

Images hold ten answers, or ten on average. Fixed overlap gives each image its first 1 to 10; dynamic overlap gives each
the floor, then one more to the images that `plan_answers` names, until it names none, with a target that rises from
just above 0 (the floor alone). Both are fitted with `auto`. Curves are means over the orders, interpolated; at the
accuracy of a fixed overlap of 4 to 8 they give how many times fewer answers the dynamic one takes.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

import numpy as np
from aggregation_family import PARTS, Crowd, family, plant
from numpy.typing import NDArray

from gandt.domain.aggregation.aggregate import Aggregation, aggregate
from gandt.domain.aggregation.answer_table import AnswerTable
from gandt.domain.aggregation.plan import plan_answers
from gandt.domain.aggregation.records import AggregateSpec, PlanSpec

DEPTH = 10
DEPTHS = range(1, DEPTH + 1)
IMAGES = 200
TARGETS = (0.01, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
COMPARED = (4, 5, 6, 7, 8)  # fixed overlaps whose accuracy is to be reached
LEAST_GAIN = 0.002  # a fixed curve that rises by less from one overlap to the next is noise, and is not compared


@dataclass(frozen=True, slots=True)
class Curve:
    """f64[P] answers an image, ascending, and accuracy."""

    answers: NDArray[np.float64]
    accuracy: NDArray[np.float64]


def main() -> None:
    """Prints a line a setting, then the geometric mean and the worst."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="report")
    parser.add_argument("--orders", type=int, default=50)
    parser.add_argument("--settings", type=int, default=16)
    parser.add_argument("--only", type=int, nargs="*", help="numbers of settings")
    parser.add_argument("--floor", type=int, default=PlanSpec().min_answers)
    parser.add_argument("--explore", type=float, default=PlanSpec().explore_share)
    args = parser.parse_args()
    plan = PlanSpec(min_answers=args.floor, max_answers=DEPTH, explore_share=args.explore)
    ratios = []
    for setting in family(args.part)[:: 48 // args.settings]:
        if args.only and setting.number not in args.only:
            continue
        crowd = plant(replace(setting, images=IMAGES, each=DEPTH, workers=max(setting.workers, DEPTH + 3)))
        fixed, dynamic = curves(crowd, plan, args.orders)
        ratio = compare(fixed, dynamic)
        ratios.append(ratio)
        print(
            f"{setting.number:3} {setting.classes:2} classes{' pages' if setting.pages else ''}: fixed 5 "
            f"{np.interp(5, fixed.answers, fixed.accuracy):.3f}, fixed {DEPTH} {fixed.accuracy[-1]:.3f}, dynamic "
            f"{dynamic.accuracy[-1]:.3f} at {dynamic.answers[-1]:.1f}; times fewer {np.round(ratio, 2)}"
        )
    every = np.concatenate(ratios)
    mean, low = np.exp(np.log(every).mean()), min(np.exp(np.log(ratio).mean()) for ratio in ratios if len(ratio))
    print(f"{len(ratios)} settings: {mean:.2f} times fewer answers, worst setting {low:.2f}, point {every.min():.2f}")


def curves(crowd: Crowd, plan: PlanSpec, orders: int) -> tuple[Curve, Curve]:
    """The fixed and the dynamic curve, means over the orders."""
    fixed, dynamic = [], []
    for seed in range(orders):
        rank = _ranks(crowd, seed)
        kept = [rank < depth for depth in DEPTHS]
        fixed.append([(float(part.sum()) / IMAGES, _right(_fit(crowd, part), crowd)) for part in kept])
        dynamic.append(_dynamic(crowd, rank, plan))
    return _mean(fixed), _mean(dynamic)


def compare(fixed: Curve, dynamic: Curve) -> NDArray[np.float64]:
    """f64: times fewer answers at the accuracy of each compared overlap; an accuracy never reached counts as the end.

    Where the dynamic curve ends below the accuracy, fixed overlap at that lower accuracy is compared.
    """
    best = np.maximum.accumulate(dynamic.accuracy)
    result = []
    for depth in COMPARED:
        wanted = fixed.accuracy[depth - 1]
        if wanted - fixed.accuracy[depth - 2] < LEAST_GAIN:
            continue
        wanted = min(wanted, best[-1])
        result.append(_first(fixed, wanted) / _first(dynamic, wanted))
    return np.array(result)


def _first(curve: Curve, wanted: float) -> float:
    """Answers an image at which the running best first reaches the accuracy."""
    best = np.maximum.accumulate(curve.accuracy)
    at = int(np.argmax(best >= wanted - 1e-12))
    if at == 0:
        return float(curve.answers[0])
    share = (wanted - best[at - 1]) / (best[at] - best[at - 1])
    return float(curve.answers[at - 1] + share * (curve.answers[at] - curve.answers[at - 1]))


def _dynamic(crowd: Crowd, rank: NDArray[np.int64], plan: PlanSpec) -> list[tuple[float, float]]:
    depth, held = np.full(IMAGES, plan.min_answers), np.bincount(crowd.item, minlength=IMAGES)
    points = []
    result = _fit(crowd, rank < depth[crowd.item])
    for target in TARGETS:
        while True:
            named = plan_answers(result, replace(plan, target_confidence=target)).images
            asked = np.array([int(image.image_id) for image in named], np.int64)
            asked = asked[depth[asked] < held[asked]]
            if not len(asked):
                break
            depth[asked] += 1
            result = _fit(crowd, rank < depth[crowd.item])
        points.append((float(np.minimum(depth, held).mean()), _right(result, crowd)))
    return points


def _mean(runs: list[list[tuple[float, float]]]) -> Curve:
    points = np.array(runs).mean(axis=0)
    return Curve(points[:, 0], points[:, 1])


def _ranks(crowd: Crowd, seed: int) -> NDArray[np.int64]:
    """i64[N]: place of each answer among those of its image."""
    noise = np.random.default_rng([5, seed]).random(len(crowd.item))
    order = np.lexsort((noise, crowd.item))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order)) - np.searchsorted(crowd.item[order], crowd.item[order])
    return rank


def _fit(crowd: Crowd, kept: NDArray[np.bool_]) -> Aggregation:
    images, workers, classes = len(crowd.truth), int(crowd.worker.max()) + 1, crowd.setting.classes
    count = int(kept.sum())
    table = AnswerTable(
        images=[f"{n:04d}" for n in range(images)],
        workers=[f"{n:04d}" for n in range(workers)],
        labels=[f"{n:02d}" for n in range(classes)],
        jobs=[""],
        image=crowd.item[kept].astype(np.int32),
        worker=crowd.worker[kept].astype(np.int32),
        job=np.zeros(count, np.int32),
        state=np.zeros(count, np.uint8),
        previous=np.zeros(count, np.bool_),
        label_ptr=np.arange(count + 1),
        label=crowd.label[kept].astype(np.int32),
    )
    return aggregate(table, AggregateSpec(classes=tuple(table.labels)), {}, lambda: None)


def _right(result: Aggregation, crowd: Crowd) -> float:
    """Accuracy, ties sharing their credit."""
    top = result.posterior >= result.posterior.max(axis=1, keepdims=True) - 1e-9
    return float((top[np.arange(len(crowd.truth)), crowd.truth] / top.sum(axis=1)).mean())


if __name__ == "__main__":
    main()
