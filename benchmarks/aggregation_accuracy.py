# SPDX-License-Identifier: GPL-3.0-or-later
"""Accuracy, log loss and Brier score on the planted family, beside crowd-kit.

    OMP_NUM_THREADS=1 python benchmarks/aggregation_accuracy.py [--part PART]

Ties share their credit; probabilities are kept above 1e-6 in the log loss. "below" is the worst difference in accuracy
to the best single peer (best on the mean) on one setting.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from _peers import available, result, run
from aggregation_family import PARTS, Crowd, family, plant
from numpy.typing import NDArray

from gandt.domain.aggregation.methods import METHODS, choose
from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.votes import NO_GOLD, Votes

OURS = ("majority", "wawa", "one-coin", "dawid-skene", "mace", "hierarchical", "subtypes", "blend", "auto")
PEERS = ("MajorityVote", "Wawa", "ZeroBasedSkill", "OneCoinDawidSkene", "DawidSkene")


def main() -> None:
    """Prints a line a method."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, default="report")
    args = parser.parse_args()
    crowds = [plant(setting) for setting in family(args.part)]
    scores = {name: np.array([scored(fitted(crowd, name), crowd.truth) for crowd in crowds]) for name in OURS}
    if available():
        scores.update(_peer_scores(crowds))
    peers = [name for name in scores if name.startswith("crowd-kit")]
    best = max(peers or ["auto"], key=lambda name: float(scores[name][:, 0].mean()))
    reference = scores.get("crowd-kit DawidSkene", scores["dawid-skene"])
    print(f"{len(crowds)} settings, {sum(len(c.item) for c in crowds):,} answers; best single peer: {best}")
    for name, found in scores.items():
        accuracy, loss, brier = found.mean(axis=0)
        below = float((found[:, 0] - scores[best][:, 0]).min())
        worse = (found[:, 1:] > reference[:, 1:] + 1e-9).sum(axis=0)
        print(
            f"{name:28} accuracy {accuracy:.4f}  log loss {loss:.4f}  Brier {brier:.4f}  below {below:+.4f}  "
            f"worse than Dawid-Skene in log loss on {worse[0]}, in Brier on {worse[1]}"
        )


def votes_of(crowd: Crowd) -> Votes:
    """The crowd's answers as votes, sorted by item and worker."""
    order = np.lexsort((crowd.worker, crowd.item))
    item, worker, label = (a[order].astype(np.int32) for a in (crowd.item, crowd.worker, crowd.label))
    images = len(crowd.truth)
    pointers = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=images))])
    gold = np.full(images, NO_GOLD, np.int32)
    return Votes(pointers, item, worker, label, gold, int(worker.max()) + 1, crowd.setting.classes)


def fitted(crowd: Crowd, name: str) -> NDArray[np.float64]:
    """f64[I, K] posterior of one of our methods."""
    votes = votes_of(crowd)
    method = METHODS[choose(votes)[0] if name == "auto" else name]
    assert method.fit is not None
    return method.fit(votes, FitOptions()).posterior


def scored(posterior: NDArray[np.float64], truth: NDArray[np.int64]) -> tuple[float, float, float]:
    """(accuracy, log loss, Brier score)."""
    rows = np.arange(len(truth))
    top = posterior >= posterior.max(axis=1, keepdims=True) - 1e-9
    kept = np.maximum(posterior, 1e-6)
    kept /= kept.sum(axis=1, keepdims=True)
    missed = posterior.copy()
    missed[rows, truth] -= 1
    return (
        float((top[rows, truth] / top.sum(axis=1)).mean()),
        float(-np.log(kept[rows, truth]).mean()),
        float((missed**2).sum(axis=1).mean()),
    )


def _peer_scores(crowds: list[Crowd]) -> dict[str, NDArray[np.float64]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for crowd in crowds:
            np.savez(
                folder / f"{crowd.setting.number:03d}.npz",
                item=crowd.item,
                worker=crowd.worker,
                label=crowd.label,
                classes=crowd.setting.classes,
            )
        run(folder, PEERS)
        found = {}
        for peer in PEERS:
            rows = [(result(folder, f"{crowd.setting.number:03d}", peer), crowd.truth) for crowd in crowds]
            if all(row is not None for row, _ in rows):
                found[f"crowd-kit {peer}"] = np.array([scored(r["probability"], truth) for r, truth in rows if r])
        return found


if __name__ == "__main__":
    main()
