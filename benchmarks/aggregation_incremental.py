# SPDX-License-Identifier: GPL-3.0-or-later
"""One more batch of answers: an update of the fitted crowd beside a full fit.

    OMP_NUM_THREADS=1 python benchmarks/aggregation_incremental.py [--answers 1000000] [--more 0.01]

The batch goes to random images and workers, a tenth of it to new images. Seconds are CPU, of the fit and the update
alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from aggregation_speed import planted

from gandt.domain.aggregation.blend import fit_blend
from gandt.domain.aggregation.incremental import FittedCrowd, fit_crowd, sweep_crowd, update_crowd
from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.votes import Votes, count_votes


def main() -> None:
    """Prints how close the update comes, how fast it is, and how large the state is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=1_000_000)
    parser.add_argument("--more", type=float, default=0.01, help="new answers as a share of the old")
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    table, _ = planted(args.answers, args.classes, 5, args.seed)
    every = count_votes(table, AggregateSpec(classes=tuple(sorted(table.labels))), {}).votes
    assert isinstance(every, Votes)
    rng = np.random.default_rng(args.seed)
    whole_images = round(every.items * args.more / 10)  # the last images are new, with all their answers
    old_images = every.items - whole_images
    new = (rng.random(len(every.item)) < args.more * 0.9) | (every.item >= old_images)
    crowd = fit_crowd(head(chosen(every, ~new), old_images), FitOptions())
    started = time.process_time()
    full = fit_blend(every, FitOptions()).posterior
    slow = time.process_time() - started
    print(f"{int((~new).sum()):,} answers and {int(new.sum()):,} more; a full fit takes {slow:.3f} s CPU")
    started = time.process_time()
    updated = update_crowd(crowd, chosen(every, new))
    tell("new votes alone", updated, full, time.process_time() - started, slow)
    for sweeps in (2, 5, 8, 12):
        started = time.process_time()
        swept = sweep_crowd(update_crowd(crowd, chosen(every, new)), every, FitOptions(), sweeps)
        tell(f"{sweeps} sweeps over all", swept, full, time.process_time() - started, slow)
    print(f"the state takes {size(updated) / 2**20:.1f} MiB")


def tell(name: str, crowd: FittedCrowd, full: np.ndarray, seconds: float, slow: float) -> None:
    """Prints how close a crowd comes to the full posteriors, and how many times as fast."""
    found = crowd.posterior()
    apart = np.abs(found - full).max(axis=1)
    top = np.sort(full, axis=1)
    flips = (found.argmax(axis=1) != full.argmax(axis=1)) & (top[:, -1] - top[:, -2] > 0.02)
    print(
        f"{name:20} {(apart <= 1e-2).mean():.5f} of {len(full):,} images within 1e-2, at most {apart.max():.3f} apart, "
        f"{int(flips.sum())} other labels; {seconds:.3f} s, {slow / seconds:.1f} times as fast"
    )


def chosen(votes: Votes, keep: np.ndarray) -> Votes:
    """Those votes, over the same items and workers."""
    item = votes.item[keep]
    pointers = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=votes.items))])
    return replace(votes, item_ptr=pointers, item=item, worker=votes.worker[keep], label=votes.label[keep])


def head(votes: Votes, items: int) -> Votes:
    """Without the items from there on, which have no vote."""
    return replace(votes, item_ptr=votes.item_ptr[: items + 1], gold=votes.gold[:items])


def size(crowd: FittedCrowd) -> int:
    """Bytes of the state's columns."""
    parts = (crowd.code, crowd.gold, *(a for p in (crowd.one, crowd.full) for a in (p.posterior, p.counts)))
    return sum(part.nbytes for part in parts)


if __name__ == "__main__":
    main()
