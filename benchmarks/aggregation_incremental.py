# SPDX-License-Identifier: GPL-3.0-or-later
"""One more batch of answers: a few sweeps from where a fit ended, beside a full fit.

    OMP_NUM_THREADS=1 python benchmarks/aggregation_incremental.py [--answers 1000000] [--more 0.01]

The batch goes to random images and workers, a tenth of it to new images. Seconds are CPU, of the fit alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
from aggregation_speed import planted

from gandt.domain.aggregation.blend import fit_blend
from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.votes import Votes, count_votes


def main() -> None:
    """Prints how close the sweeps come, and how fast they are."""
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
    starts = []
    for part in fit_blend(chosen(every, ~new), FitOptions()).parts:
        start = np.full_like(part, np.nan)
        start[:old_images] = part[:old_images]
        starts.append(start)
    started = time.process_time()
    full = fit_blend(every, FitOptions()).posterior
    slow = time.process_time() - started
    print(f"{int((~new).sum()):,} answers and {int(new.sum()):,} more; a full fit takes {slow:.3f} s CPU")
    for sweeps in (2, 5, 8, 12, 20):
        started = time.process_time()
        found = fit_blend(every, FitOptions(start=starts[0], starts=starts, iterations=sweeps)).posterior
        tell(f"{sweeps} sweeps", found, full, time.process_time() - started, slow)


def tell(name: str, found: np.ndarray, full: np.ndarray, seconds: float, slow: float) -> None:
    """Prints how close posteriors come to the full fit's, and how many times as fast."""
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


if __name__ == "__main__":
    main()
