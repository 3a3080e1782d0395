# SPDX-License-Identifier: GPL-3.0-or-later
"""Several labels an image: CPU seconds and accuracy of `two-coin` beside crowd-kit's BinaryRelevance(DawidSkene).

    OMP_NUM_THREADS=1 python benchmarks/aggregation_multi_label.py [--images 20000]

A fifth of the images carry no label. Workers are long-tailed, with a miss rate and a false-alarm rate of their own; 8 %
tick at random and 4 % tick everything. Seconds are those of fitting, each the best of three, without reading, imports
and data frames. "set" is the share of images whose whole label set is right.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from _peers import available, result, run
from numpy.typing import NDArray

from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.two_coin import fit_two_coin
from gandt.domain.aggregation.votes import SetVotes

LABELS, EACH = 8, 5
PEER = "BinaryRelevance"


def planted(images: int, seed: int) -> tuple[SetVotes, NDArray[np.bool_]]:
    """Votes with a label set each, and bool[I, K] the truth."""
    rng = np.random.default_rng(seed)
    workers = max(20, images // 40)
    truth = rng.random((images, LABELS)) < rng.uniform(0.08, 0.35, LABELS)
    truth[rng.random(images) < 0.1] = False
    activity = rng.pareto(1.5, workers) + 0.5
    item = np.repeat(np.arange(images), EACH)
    worker = rng.choice(workers, len(item), p=activity / activity.sum())
    _, first = np.unique(item * workers + worker, return_index=True)  # one answer of a worker to an image
    item, worker = item[first], worker[first]
    miss, alarm = rng.beta(2, 8, (workers, LABELS)), rng.beta(1, 15, (workers, LABELS))
    kind = rng.permutation(workers) / workers
    miss[kind < 0.12], alarm[kind < 0.12] = 0.5, 0.5
    miss[kind < 0.04], alarm[kind < 0.04] = 0.0, 1.0
    says = rng.random((len(item), LABELS)) < np.where(truth[item], 1 - miss[worker], alarm[worker])
    sizes = says.sum(axis=1)
    votes = SetVotes(
        item_ptr=np.concatenate([[0], np.cumsum(np.bincount(item, minlength=images))]),
        item=item.astype(np.int32),
        worker=worker.astype(np.int32),
        set_ptr=np.concatenate([[0], np.cumsum(sizes)]),
        set_label=np.nonzero(says)[1].astype(np.int32),
        gold=np.zeros((images, LABELS), np.bool_),
        has_gold=np.zeros(images, np.bool_),
        workers=workers,
        classes=LABELS,
    )
    return votes, truth


def fitted(votes: SetVotes) -> NDArray[np.float64]:
    """f64[I, K] probability of each label."""
    return np.stack([fit_two_coin(votes.binary(k), FitOptions()).posterior[:, 1] for k in range(LABELS)], 1)


def told(name: str, found: NDArray[np.bool_], truth: NDArray[np.bool_], seconds: float) -> None:
    """Prints one line."""
    hits = (found & truth).sum()
    f1 = 2 * hits / (found.sum() + truth.sum())
    print(f"{name:28} {seconds:7.3f} s CPU  set {(found == truth).all(axis=1).mean():.4f}  micro F1 {f1:.4f}")


def main() -> None:
    """Prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    votes, truth = planted(args.images, args.seed)
    print(f"{len(votes.item):,} answers on {args.images:,} images, {LABELS} labels, {votes.workers:,} workers")
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        probability = fitted(votes)
        best = min(best, time.process_time() - started)
    told("two-coin", probability > 0.5, truth, best)
    if not available():
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = {"item": votes.item, "worker": votes.worker, "label": votes.set_label, "set_ptr": votes.set_ptr}
        for n in range(3):
            np.savez(folder / f"{n}.npz", classes=LABELS, **columns)
        run(folder, [PEER])
        theirs = [found for n in range(3) if (found := result(folder, str(n), PEER)) is not None]
    peer = min(float(found["seconds"]) for found in theirs)
    told(f"crowd-kit {PEER}", theirs[0]["probability"] > 0.5, truth, peer)
    print(f"{peer / best:.1f} times as fast")


if __name__ == "__main__":
    main()
