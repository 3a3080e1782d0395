# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU seconds and accuracy of the aggregation methods on a planted crowd.

    OMP_NUM_THREADS=1 python benchmarks/aggregation_speed.py --answers 1000000 --classes 4

Workers are long-tailed; 12 % answer at random, 5 % with one label, 3 % against the truth. Time is that of counting
votes, fitting, deciding and reporting on workers, without reading or sending answers. The last lines compare the
fit of Dawid-Skene alone with crowd-kit's, when that is installed (README.md): seconds, iterations and posteriors.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from _peers import available, result, run

from gandt.domain.aggregation.aggregate import aggregate
from gandt.domain.aggregation.answer_table import AnswerTable, AnswerTableBuilder
from gandt.domain.aggregation.dawid_skene import fit_dawid_skene
from gandt.domain.aggregation.model import Fit, FitOptions
from gandt.domain.aggregation.records import AggregateSpec, AnswerChunk
from gandt.domain.aggregation.votes import Votes, count_votes

METHODS = ("majority", "wawa", "agreement", "one-coin", "dawid-skene", "hierarchical")


def planted(answers: int, classes: int, each: int, seed: int) -> tuple[AnswerTable, list[int]]:
    """A table of answers and the true class of each image."""
    rng = np.random.default_rng(seed)
    images, workers = answers // each, max(20, answers // 200)
    truth = rng.choice(classes, images, p=rng.dirichlet(np.full(classes, 5.0)))
    accuracy = np.clip(rng.beta(8, 2, workers), 0.3, 0.99)
    kind = rng.permutation(workers) / workers
    activity = rng.pareto(1.5, workers) + 0.5
    image = np.repeat(np.arange(images), each)
    worker = rng.choice(workers, len(image), p=activity / activity.sum())
    wrong = (truth[image] + rng.integers(1, classes, len(image))) % classes
    honest = np.where(rng.random(len(image)) < accuracy[worker], truth[image], wrong)
    _, first = np.unique(image * workers + worker, return_index=True)  # one answer of a worker to an image
    image, worker, wrong, honest = image[first], worker[first], wrong[first], honest[first]
    label = np.select(
        [kind[worker] < 0.12, kind[worker] < 0.17, kind[worker] < 0.20],
        [rng.integers(0, classes, len(image)), 0, wrong],
        honest,
    )
    builder = AnswerTableBuilder()
    builder.add(
        AnswerChunk(
            [f"i{n}" for n in range(images)],
            [f"w{n}" for n in range(workers)],
            [f"c{n}" for n in range(classes)],
            (),
            image,
            worker,
            np.ones(len(image), np.int64),
            label.astype(np.int64),
        )
    )
    return builder.build(), truth.tolist()


def main() -> None:
    """Prints a line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--each", type=int, default=5, help="answers an image")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table, truth = planted(args.answers, args.classes, args.each, args.seed)
    print(
        f"{len(table):,} answers, {len(table.images):,} images, {len(table.workers):,} workers, {args.classes} classes"
    )
    for method in METHODS:
        started = time.process_time()
        result = aggregate(table, AggregateSpec(method=method), {}, lambda: None)
        seconds = time.process_time() - started
        right = sum(f"c{truth[int(item.image_id[1:])]}" in item.labels[:1] for item in result.items())
        print(
            f"{method:<13} accuracy {right / len(truth):.4f}  {seconds:7.3f} s CPU  "
            f"{result.summary.iterations:3d} iterations{'' if result.summary.converged else ' (not converged)'}"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    if available():
        beside_crowd_kit(table)


def beside_crowd_kit(table: AnswerTable) -> None:
    """Prints the same fit by both, each the best of three."""
    spec = AggregateSpec(method="dawid-skene", classes=tuple(sorted(table.labels)))
    votes = count_votes(table, spec, {}).votes
    assert isinstance(votes, Votes)
    ours, seconds = fastest(votes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        columns = {"item": votes.item, "worker": votes.worker, "label": votes.label, "classes": votes.classes}
        for n in range(3):
            np.savez(folder / f"{n}.npz", **columns)
        run(folder, ["DawidSkene"])
        theirs = [found for n in range(3) if (found := result(folder, str(n), "DawidSkene")) is not None]
    peer = min(float(found["seconds"]) for found in theirs)
    apart = float(np.abs(theirs[0]["probability"] - ours.posterior).max())
    print(
        f"Dawid-Skene alone: {seconds:.3f} s CPU, {ours.iterations} iterations; crowd-kit {peer:.3f} s, "
        f"{int(theirs[0]['iterations'])} iterations, {float(theirs[0]['memory']):.0f} MiB; "
        f"{peer / seconds:.1f} times as fast, posteriors differ by at most {apart:.1e}"
    )


def fastest(votes: Votes) -> tuple[Fit, float]:
    """The fit, and the least CPU seconds of three runs."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        fit = fit_dawid_skene(votes, FitOptions())
        best = min(best, time.process_time() - started)
    return fit, best


if __name__ == "__main__":
    main()
