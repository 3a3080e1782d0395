# SPDX-License-Identifier: GPL-3.0-or-later
"""Counts the wanted images that the filter loses, by the original's rule and by ranking at the same or asked share.

    python benchmarks/selection_filter.py digits|hog|clothing [--seeds 20] [--share 0.5]

Four classes are wanted and thinned to 15 % of the pool; 10 images of each and 40 others are labeled (another draw a
seed). Data as in selection_labels.py.
"""

from __future__ import annotations

import argparse

import numpy as np
from selection_labels import load

from gandt.domain.datasets import LabeledImage
from gandt.domain.selection.filtering import Filtered, LabeledVectors, filter_pool
from gandt.domain.selection.pool import Matrix, MemoryRows
from gandt.domain.selection.records import FilterSpec
from gandt.domain.selection.steps import finish

WANTED = 0.15
DISCARD = 1  # code in Filtered.decisions


def main() -> None:
    """Prints mean shares over the seeds, and their part of the original's loss with a paired bootstrap interval."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", choices=("digits", "hog", "clothing"))
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.5)
    args = parser.parse_args()
    vectors, classes = load(args.data)
    lost: dict[str, list[float]] = {"original": [], "ranking, same share": [], "ranking, exact share": []}
    discarded = []
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        wanted = rng.permutation(sorted(set(classes.tolist())))[:4].tolist()
        known = [row for name in wanted for row in rng.permutation(np.flatnonzero(classes == name))[:10].tolist()]
        known += rng.permutation(np.flatnonzero(~np.isin(classes, wanted)))[:40].tolist()
        rare = np.flatnonzero(np.isin(classes, wanted) & ~np.isin(np.arange(len(classes)), known))
        others = int((~np.isin(classes, wanted)).sum()) - 40
        away = rng.permutation(rare)[round(others * WANTED / (1 - WANTED)) :]
        pool_rows = np.setdiff1d(np.arange(len(classes)), [*known, *away.tolist()])
        labels = [str(classes[row]) if classes[row] in wanted else "Other" for row in known]
        side = LabeledVectors(
            [LabeledImage(str(row), (label,)) for row, label in zip(known, labels, strict=True)],
            [str(row) for row in known],
            vectors[known],
        )
        pool, is_wanted = vectors[pool_rows], np.isin(classes[pool_rows], wanted)
        original = _filtered(FilterSpec(min_proportion=args.share), pool, side)
        share = float((original.decisions == DISCARD).mean())
        discarded.append(share)
        for name, result in (
            ("original", original),
            ("ranking, same share", _filtered(FilterSpec(discard_share=share), pool, side)),
            ("ranking, exact share", _filtered(FilterSpec(discard_share=args.share), pool, side)),
        ):
            lost[name].append(float((result.decisions[is_wanted] == DISCARD).mean()))
    print(f"{args.data}: asked {args.share:.0%}, the original discards {np.mean(discarded):.1%}; wanted images lost:")
    base = np.array(lost["original"])
    resampled = np.random.default_rng(0).integers(len(base), size=(2_000, len(base)))
    for name, shares in lost.items():
        mine = np.array(shares)
        low, high = np.quantile(mine[resampled].sum(axis=1) / base[resampled].sum(axis=1), (0.025, 0.975))
        part = f"of the original's loss {mine.sum() / base.sum():.3f} [{low:.3f}, {high:.3f}]"
        print(f"  {name:21s} {mine.mean():6.1%} +- {mine.std():.1%}  {part}")


def _filtered(spec: FilterSpec, pool: Matrix, side: LabeledVectors) -> Filtered:
    rows = MemoryRows()
    rows.append(pool)
    return finish(filter_pool(spec, [f"p{row:06d}" for row in range(len(pool))], rows, side))


if __name__ == "__main__":
    main()
