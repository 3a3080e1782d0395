# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the labels that each strategy needs to find 80 % of a rare class (2 %), 5 targets and 20 others known.

    python benchmarks/selection_labels.py digits|hog|clothing [--strategies a,b] [--seeds 10] [--batch 20]

`digits` are scikit-learn's 1,797 handwritten digits as 64 pixels, `hog` the same as small gradient histograms,
`clothing` the MobileNetV2 vectors of GANDT_SHARED_DIR. Seed s looks for class s modulo 10. The uniform expectation is
exact: k (N + 1) / (K + 1) draws for k of K targets among N.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import replace
from math import ceil
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: one thread, so that seconds can be compared

import numpy as np
from numpy.typing import NDArray

from gandt.domain.report.random_choice import expected_draws
from gandt.domain.selection.pool import Matrix, unit_rows
from gandt.domain.selection.records import EvaluateRun, EvaluateSpec
from gandt.domain.selection.replay import Truth, evaluate

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


def thinned(vectors: Matrix, classes: NDArray[np.str_], wanted: str, seed: int) -> Truth:
    """All other images and so many of the wanted class that it makes up 2 %."""
    rng = np.random.default_rng(seed)
    targets, others = np.flatnonzero(classes == wanted), np.flatnonzero(classes != wanted)
    keep = min(len(targets), max(POSITIVES + 1, round(SHARE * len(others) / (1 - SHARE))))
    rows = np.sort(np.concatenate([rng.permutation(targets)[:keep], others]))
    ids = [f"{row:06d}" for row in rows]
    labels = {i: ("wanted",) if classes[row] == wanted else ("Other",) for i, row in zip(ids, rows, strict=True)}
    return Truth(ids, vectors[rows], labels)


def main() -> None:
    """Prints one line a strategy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("digits", "hog", "clothing"))
    parser.add_argument("--strategies", default="find-more,find-similar,compat,random")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--batch", type=int, default=20)
    args = parser.parse_args()
    names = tuple(args.strategies.split(","))
    vectors, classes = load(args.data)
    wanted = sorted(set(classes.tolist()))
    labels: dict[str, list[int]] = {name: [] for name in names}
    expected: list[float] = []
    seconds = dict.fromkeys(names, 0.0)
    for seed in range(args.seeds):
        truth = thinned(vectors, classes, wanted[seed % len(wanted)], seed)
        targets = sum(label == ("wanted",) for label in truth.labels.values()) - POSITIVES
        expected.append(expected_draws(len(truth.ids) - POSITIVES - OTHERS, targets, ceil(RECALL * targets)))
        spec = EvaluateSpec(
            target_labels=("wanted",),
            other_label="Other",
            batch_size=args.batch,
            initial_positives=POSITIVES,
            initial_others=OTHERS,
            recall_target=RECALL,
            repetitions=1,
            seed=seed,
        )
        for name in names:
            begin = time.process_time()
            runs = evaluate(replace(spec, strategies=(name,)), truth)
            labels[name] += [run.labels_to_target for run in runs if isinstance(run, EvaluateRun)]
            seconds[name] += time.process_time() - begin
    print(f"{args.data}: uniform draw expects {np.mean(expected):.0f} labels")
    for name in names:
        counts = np.array(labels[name], float)
        ratio = np.exp(np.mean(np.log(np.array(expected) / counts)))
        print(
            f"{name:13s} mean {counts.mean():7.1f}  geometric mean {np.exp(np.log(counts).mean()):7.1f}  "
            f"random/it {ratio:6.1f}  CPU s {seconds[name]:6.1f}  {labels[name]}",
            flush=True,
        )


if __name__ == "__main__":
    main()
