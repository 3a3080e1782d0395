# SPDX-License-Identifier: GPL-3.0-or-later
"""Balanced accuracy of a linear probe on the labels that a strategy bought, against as many drawn uniformly.

    python benchmarks/selection_probe.py clothing|digits|hog [--seeds 20] [--strategies improve-model] [--keep FILE]

A quarter of the images is held out (another a seed), the rest is the pool, nothing is labeled; rounds of 20 to 400
labels, a tenth of each drawn as control. The probe is scikit-learn's logistic regression, C = 10, on 128 principal axes
of the pool. Data as in selection_labels.py. Results are kept by FILE, so a run can be cut and goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student
from selection_labels import load
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from gandt.domain.datasets import LabeledImage
from gandt.domain.selection.pool import Matrix, MemoryRows, Pool
from gandt.domain.selection.records import SelectSpec
from gandt.domain.selection.selecting import Known, select
from gandt.domain.selection.space import space_of
from gandt.domain.selection.steps import finish
from gandt.domain.selection.training import training_set

BATCH, LAST = 20, 400


def curve(vectors: Matrix, classes: NDArray[np.str_], strategy: str, seed: int) -> list[float]:
    """Balanced accuracy after 20, 40, ... 400 labels."""
    order = np.random.default_rng(seed).permutation(len(classes))
    test, pool = np.sort(order[: len(order) // 4]), np.sort(order[len(order) // 4 :])
    space = space_of(vectors[np.random.default_rng(seed).permutation(pool)[:2_000]])
    axes = (vectors - space.center) @ space.axes
    known: list[int] = []
    out = []
    for number in range(1, LAST // BATCH + 1):
        open_ = np.setdiff1d(pool, known)
        rows = MemoryRows()
        rows.append(vectors[open_])
        labeled = {f"{row:06d}": LabeledImage(f"{row:06d}", (str(classes[row]),)) for row in sorted(known)}
        training = training_set(labeled, list(labeled), vectors[sorted(known)])
        spec = SelectSpec(strategy=strategy, count=BATCH, seed=seed, round=number)
        ids = [f"{row:06d}" for row in open_.tolist()]
        result = finish(select(spec, Pool(ids, rows), Known(training, space=space)))
        known += [int(pick.image_id) for pick in result.picks]
        probe = LogisticRegression(C=10.0, max_iter=500).fit(axes[known], classes[known])
        out.append(float(balanced_accuracy_score(classes[test], probe.predict(axes[test]))))
    return out


def interval(values: NDArray[np.float64]) -> str:
    """Mean with its 95 % interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} [{values.mean() - half:+.4f}, {values.mean() + half:+.4f}]"


def main() -> None:
    """Prints mean curves, and the paired difference of the areas under them to random's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("digits", "hog", "clothing"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--strategies", default="improve-model")
    parser.add_argument("--keep", type=Path, default=Path("selection-probe.jsonl"))
    args = parser.parse_args()
    done = {tuple(key): value for key, value in map(json.loads, args.keep.open())} if args.keep.exists() else {}
    vectors, classes = load(args.data)
    names = ["random", *args.strategies.split(",")]
    curves: dict[str, list[list[float]]] = {name: [] for name in names}
    for seed in range(args.seeds):
        for name in names:
            key = (args.data, name, seed)
            if key not in done:
                done[key] = curve(vectors, classes, name, seed)
                with args.keep.open("a") as file:
                    file.write(json.dumps([key, done[key]]) + "\n")
            curves[name].append(done[key])
    budgets = [BATCH * number for number in range(1, LAST // BATCH + 1)]
    random = np.array(curves["random"])  # [seeds, budgets]
    shown = [budgets.index(budget) for budget in (20, 40, 100, 200, 400)]
    for name in names:
        mine = np.array(curves[name])
        gain = mine - random
        points = " / ".join(f"{mine[:, at].mean():.3f}" for at in shown)
        worst = int(gain.mean(axis=0).argmin())
        print(
            f"{args.data} {name:14s} at 20 / 40 / 100 / 200 / 400: {points}  area over random's "
            f"{interval(gain.mean(axis=1))}  worst budget {budgets[worst]}: {gain.mean(axis=0)[worst]:+.4f}"
        )


if __name__ == "__main__":
    main()
