# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels until 80 % of the rest of a rare class (2 %) is found, from 5 of it and 20 others, paired over seeds.

    python benchmarks/selection_labels.py clothing|digits|hog [--half tuned|reported] [--seeds 20] [--batch 20]
        [--wrong 0.1] [--modes] [--strategies find-more,logistic,filter] [--keep FILE]

`clothing` are the MobileNetV2 vectors of GANDT_SHARED_DIR, `digits` scikit-learn's 1,797 digits as 64 pixels, `hog` the
same as small gradient histograms. Rankings were chosen on the `tuned` classes (every second one, from the first); the
`reported` ones are the others. Seed s looks for class s modulo 5 of its half. All rankings draw a tenth as control and
pay for it. `filter` is the original's: its filter once with p = 0.1, then uniform draws of what remains (exact
expectation). `logistic` is scikit-learn's, balanced, C = 1, on 128 principal axes, most likely first. `--wrong` swaps
that share of all labels, those known at the start included. `--modes` joins two classes, each thinned to 1 %, into the
wanted one, and counts labels until 80 % of each is found. Results are kept by FILE, so a run can be cut and goes on.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one thread, so that seconds can be compared

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from gandt.domain.datasets import LabeledImage
from gandt.domain.report.random_choice import expected_draws
from gandt.domain.selection.compat_filter import count_farther, threshold_of
from gandt.domain.selection.pool import Matrix, MemoryRows, Pool, unit_rows
from gandt.domain.selection.records import SelectSpec
from gandt.domain.selection.selecting import Known, control_size, select
from gandt.domain.selection.space import Space, space_of
from gandt.domain.selection.steps import finish
from gandt.domain.selection.training import training_set
from gandt.domain.selection.trimmed_distance import TrimmedDistances, label_columns

SHARED = Path(os.environ.get("GANDT_SHARED_DIR", Path(__file__).resolve().parents[2] / "shared"))
SHARE = 0.02
POSITIVES, OTHERS, RECALL = 5, 20, 0.8


def load(name: str) -> tuple[Matrix, NDArray[np.str_]]:
    """f64[N, D] unit vectors and their classes."""
    if name == "clothing":
        folder = SHARED / "data" / "clothing_vectors"
        with np.load(folder / "vectors.npz") as data:
            images, vectors = data["images"], data["vectors"]
        with (folder / "labels.csv").open() as file:
            classes = {row["image"]: row["label"] for row in csv.DictReader(file)}
        return unit_rows(vectors), np.array([classes[image] for image in images])
    from sklearn.datasets import load_digits

    digits = load_digits()
    vectors = digits.data if name == "digits" else gradients(digits.images)
    return unit_rows(vectors), digits.target.astype(str)


def gradients(images: NDArray[np.float64]) -> Matrix:
    """f64[N, 81] histograms of 9 gradient directions over 9 overlapping 4 x 4 cells of f64[N, 8, 8]."""
    dy, dx = np.gradient(images, axis=(1, 2))
    place = np.mod(np.arctan2(dy, dx), np.pi) / np.pi * 9
    low, part, length = np.floor(place).astype(int) % 9, place - np.floor(place), np.hypot(dy, dx)
    histogram = np.zeros((*images.shape, 9))
    where = np.indices(images.shape)
    np.add.at(histogram, (*where, low), length * (1 - part))
    np.add.at(histogram, (*where, (low + 1) % 9), length * part)
    cells = [histogram[:, r : r + 4, c : c + 4].sum((1, 2)) for r in (0, 2, 4) for c in (0, 2, 4)]
    return np.asarray(np.sqrt(np.concatenate([unit_rows(cell) for cell in cells], axis=1)))


@dataclass(frozen=True)
class Task:
    """A pool with one rare wanted class.

    Attributes:
        vectors: f64[N, D] unit vectors.
        mode: i64[N] 0 for other images, else the wanted kind (1, or 2 with --modes).
        said: bool[N] what people will answer: wanted or not; wrong for some when asked.
        start: rows known at the start.
    """

    vectors: Matrix
    mode: NDArray[np.int64]
    said: NDArray[np.bool_]
    start: list[int]
    seed: int
    space: Space

    def reached(self, found: NDArray[np.int64]) -> bool:
        """Whether 80 % of what was not known of each kind is among found i64[3], counts by kind."""
        return all(found[kind] >= self.needed(kind) for kind in range(1, int(self.mode.max()) + 1))

    def needed(self, kind: int) -> int:
        """Images of a kind to find."""
        left = int((self.mode == kind).sum()) - int((self.mode[self.start] == kind).sum())
        return ceil(RECALL * left - 1e-9)


def task_of(data: tuple[Matrix, NDArray[np.str_]], half: str, seed: int, wrong: float, modes: bool) -> Task:
    """The task of a seed."""
    vectors, classes = data
    names = sorted(set(classes.tolist()))[0 if half == "tuned" else 1 :: 2]
    kinds = [names[seed % len(names)]] + ([names[(seed + 1 + seed // 5 % 4) % len(names)]] if modes else [])
    rng = np.random.default_rng(seed)
    others = np.flatnonzero(~np.isin(classes, kinds))
    keep = max(POSITIVES + 1, round(SHARE * len(others) / (1 - SHARE) / len(kinds)))
    rows = np.concatenate([others, *(rng.permutation(np.flatnonzero(classes == kind))[:keep] for kind in kinds)])
    rows.sort()
    mode = np.array([kinds.index(c) + 1 if c in kinds else 0 for c in classes[rows].tolist()], np.int64)
    start: list[int] = []
    for kind in range(1, len(kinds) + 1):
        share = POSITIVES // len(kinds) + (kind <= POSITIVES % len(kinds))
        start += rng.permutation(np.flatnonzero(mode == kind))[:share].tolist()
    start += rng.permutation(np.flatnonzero(mode == 0))[:OTHERS].tolist()
    said = (mode > 0) ^ (rng.random(len(rows)) < wrong)
    sample = rng.permutation(len(rows))[:2_000]
    return Task(vectors[rows], mode, said, start, seed, space_of(vectors[rows][np.sort(sample)]))


Rank = Callable[[Task, list[int], int, int], list[int]]


def by_strategy(name: str) -> Rank:
    """Rounds as the service selects them."""

    def rank(task: Task, known: list[int], count: int, number: int) -> list[int]:
        open_ = np.setdiff1d(np.arange(len(task.mode)), known)
        rows = MemoryRows()
        rows.append(task.vectors[open_])
        labeled = {_id(row): LabeledImage(_id(row), (_label(task, row),)) for row in sorted(known)}
        training = training_set(labeled, list(labeled), task.vectors[sorted(known)])
        spec = SelectSpec(
            strategy=name, target_labels=("wanted",), other_label="Other", count=count, seed=task.seed, round=number
        )
        result = finish(
            select(spec, Pool([_id(row) for row in open_.tolist()], rows), Known(training, space=task.space))
        )
        return [int(pick.image_id) for pick in result.picks]

    return rank


def by_logistic(task: Task, known: list[int], count: int, number: int) -> list[int]:
    """The plain way: balanced logistic regression on principal axes, most likely first, a tenth as control."""
    from sklearn.linear_model import LogisticRegression

    axes = (task.vectors - task.space.center) @ task.space.axes  # not scaled to unit length: as PCA gives them
    open_ = np.setdiff1d(np.arange(len(task.mode)), known)
    control = np.random.default_rng([task.seed, number]).permutation(open_)[: control_size(count, 0.1, len(open_))]
    model = LogisticRegression(class_weight="balanced", max_iter=300).fit(axes[known], task.said[known])
    main = np.setdiff1d(open_, control)
    best = main[np.argsort(-model.decision_function(axes[main]), kind="stable")][: count - len(control)]
    return [*best.tolist(), *control.tolist()]


def labels_needed(task: Task, rank: Rank, batch: int) -> list[int]:
    """Labels until 80 % of each kind is found, then by kind."""
    known, found, bought = list(task.start), np.zeros(3, np.int64), 0
    at: dict[int, int] = {}
    kinds = int(task.mode.max())
    for number in range(1, len(task.mode)):
        for row in rank(task, known, batch, number):
            known.append(row)
            bought += 1
            found[task.mode[row]] += task.mode[row] > 0
            for kind in range(1, kinds + 1):
                if found[kind] >= task.needed(kind):
                    at.setdefault(kind, bought)
        if task.reached(found):
            break
    return [max(at.values()), *(at[kind] for kind in range(1, kinds + 1))]


def filter_expectation(task: Task) -> float:
    """Expected labels of the original's way: filter once, draw uniformly of what remains, then of the rest."""
    side = label_columns(
        [_id(row) for row in task.start],
        [(_label(task, row),) for row in task.start],
        [_id(row) for row in task.start],
        task.vectors[task.start],
    )
    open_ = np.setdiff1d(np.arange(len(task.mode)), task.start)
    farther = count_farther(TrimmedDistances(side, "Other", exact=True).of(task.vectors[open_]), side.names, "Other")
    threshold = threshold_of(farther, len(side.names) - 1, 0.1)
    remain = farther <= threshold if threshold >= 0 else np.ones(len(open_), bool)
    wanted, needed = task.mode[open_] > 0, task.needed(1)
    if (inside := int((wanted & remain).sum())) >= needed:
        return expected_draws(int(remain.sum()), inside, needed)
    rest = int((wanted & ~remain).sum())
    return int(remain.sum()) + expected_draws(int((~remain).sum()), rest, needed - inside)


def ratio(other: list[float], mine: list[float]) -> str:
    """Geometric mean of other / mine with its paired 95 % interval (t over the logarithms)."""
    logs = np.log(np.array(other) / np.array(mine))
    half = student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else np.inf
    return f"{np.exp(logs.mean()):.2f} [{np.exp(logs.mean() - half):.2f}, {np.exp(logs.mean() + half):.2f}]"


def _id(row: int) -> str:
    return f"{row:06d}"


def _label(task: Task, row: int) -> str:
    return "wanted" if task.said[row] else "Other"


def main() -> None:
    """Prints geometric means, and find-more's paired ratios to the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("digits", "hog", "clothing"))
    parser.add_argument("--half", choices=("tuned", "reported"), default="reported")
    parser.add_argument("--strategies", default="find-more,logistic,filter")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--wrong", type=float, default=0.0)
    parser.add_argument("--modes", action="store_true")
    parser.add_argument("--keep", type=Path, default=Path("selection-labels.jsonl"))
    args = parser.parse_args()
    done = {tuple(key): value for key, value in map(json.loads, args.keep.open())} if args.keep.exists() else {}
    data = load(args.data)
    results: dict[str, list[list[float]]] = {name: [] for name in args.strategies.split(",")}
    begun = time.process_time()
    for seed in range(args.seeds):
        task = None
        for name, runs in results.items():
            key = (args.data, args.half, name, seed, args.batch, args.wrong, args.modes)
            if key not in done:
                task = task or task_of(data, args.half, seed, args.wrong, args.modes)
                if name == "filter":
                    done[key] = [filter_expectation(task)]
                else:
                    done[key] = labels_needed(
                        task, by_logistic if name == "logistic" else by_strategy(name), args.batch
                    )
                with args.keep.open("a") as file:
                    file.write(json.dumps([key, done[key]]) + "\n")
            runs.append(done[key])
    print(f"{args.data} {args.half} batch {args.batch} wrong {args.wrong} modes {args.modes} seeds {args.seeds}")
    mine = [run[0] for run in next(iter(results.values()))]
    for name, runs in results.items():
        means = "  ".join(f"{mean:7.1f}" for mean in np.exp(np.log(np.array(runs)).mean(axis=0)))
        print(f"  {name:13s} geometric mean {means}  ratio to the first {ratio([run[0] for run in runs], mine)}")
    print(f"  CPU s {time.process_time() - begun:.0f}")


if __name__ == "__main__":
    main()
