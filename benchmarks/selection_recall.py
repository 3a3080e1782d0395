# SPDX-License-Identifier: GPL-3.0-or-later
"""The proven recall: false claims over all looks, and labels until the claim against a fixed-sample test.

    python benchmarks/selection_recall.py [--simulations 1000] [--regimes 0,1,...]

Count-level simulation of whole campaigns with the product's own bound and phase rule. A ranking is Wallenius' urn: it
prefers each target within its reach by odds of 50 (on photos: 80 % of 64 targets with about 160 labels); targets beyond
its reach look like other images to it. Rounds have 20 images in the pool of 3,500 and 100 in that of 20,000, one tenth
of them control draws. A campaign finds, proves once the main yield has fallen to the control yield, and stops when the
bound says .80 at alpha = .05. False claims are counted at every look, and beyond the stop until the pool is empty.

The yardstick knows all that a campaign does not: how many targets there are, what the ranking has found at each depth,
and so the best depth to stop ranking at. There it draws one sample of fixed size and makes an exact hypergeometric
test. Its labels are depth and sample together, the fewest with which the test succeeds in 50 % or 80 % of cases.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import mean, median

import numpy as np
from scipy.stats import hypergeom

from gandt.domain.selection.phases import Phase, RoundYield, next_phase
from gandt.domain.selection.prevalence import ControlDraw
from gandt.domain.selection.recall_bound import RecallBound

ALPHA, RECALL, KNOWN, ODDS, CONTROL = 0.05, 0.8, 5, 50.0, 0.1


@dataclass(frozen=True)
class Regime:
    """One kind of campaign; `beyond` is the share of targets that the ranking cannot tell from other images."""

    images: int
    share: float
    beyond: float

    @property
    def targets(self) -> int:
        return round(self.images * self.share)

    @property
    def batch(self) -> int:
        return 20 if self.images < 10_000 else 100


REGIMES = [Regime(n, share, beyond) for n in (3_500, 20_000) for share in (0.02, 0.01) for beyond in (0.0, 0.12)]


class Urn:
    """What is left in the pool of one campaign."""

    def __init__(self, regime: Regime, rng: np.random.Generator) -> None:
        self.far = round(regime.beyond * regime.targets)
        self.near = regime.targets - self.far - KNOWN
        self.pool, self.found, self._rng = regime.images - KNOWN, KNOWN, rng

    def control(self, count: int) -> int:
        """Targets among `count` uniform draws."""
        near, far, _ = self._rng.multivariate_hypergeometric(
            [self.near, self.far, self.pool - self.near - self.far], count
        )
        self._take(count, int(near), int(far))
        return int(near + far)

    def main(self, count: int) -> int:
        """Targets among the next `count` images of the ranking."""
        near, far, pool = self.near, self.far, self.pool
        for chance in self._rng.random(count).tolist():
            hit = near * ODDS / (near * ODDS + pool - near)
            if chance < hit:
                near -= 1
            elif (chance - hit) / (1 - hit) < far / (pool - near):
                far -= 1
            pool -= 1
        got = self.near - near, self.far - far
        self._take(count, *got)
        return sum(got)

    def _take(self, count: int, near: int, far: int) -> None:
        self.near, self.far, self.pool, self.found = (
            self.near - near,
            self.far - far,
            self.pool - count,
            self.found + near + far,
        )


def campaign(regime: Regime, seed: int) -> tuple[int, bool]:
    """Labels at the stop, and whether any look up to the last image claimed too much."""
    urn, rounds = Urn(regime, np.random.default_rng(seed)), []
    bound, truth = RecallBound(regime.images, ALPHA), regime.targets
    labels = stop = 0
    wrong, phase = False, Phase.FIND
    while urn.pool:
        size = min(regime.batch, urn.pool)
        drawn = size if phase is Phase.PROVE else max(1, round(size * CONTROL))
        before, pool = urn.found, urn.pool
        hits = urn.control(drawn)
        bound.add(ControlDraw(pool, drawn, hits, before))
        main_hits = urn.main(size - drawn)
        labels += size
        rounds.append(RoundYield(size - drawn, main_hits, drawn, hits))
        phase = phase if phase is Phase.PROVE else next_phase(rounds)
        wrong = wrong or bound.recall(urn.found) > urn.found / truth + 1e-12
        if not stop and bound.recall(urn.found) >= RECALL:
            stop = labels
    return stop or labels, wrong


def fixed_sample(regime: Regime, power: float) -> tuple[int, int]:
    """Fewest labels, and the best depth, of the test that knows everything."""
    urns = [Urn(regime, np.random.default_rng(10_000 + n)) for n in range(20)]
    best = (regime.images, 0)
    depth = 0
    while depth < min(best[0], regime.images // 2):
        for urn in urns:
            urn.main(regime.batch)
        depth += regime.batch
        found = int(median(urn.found for urn in urns))
        needed = _sample(urns[0].pool, found, regime.targets - found, power, best[0] - depth)
        best = min(best, (depth + needed, depth))
    return best


def _sample(pool: int, found: int, left: int, power: float, most: int) -> int:
    """Fewest uniform draws with which the exact test claims RECALL often enough; `most` when none up to it do."""

    def succeeds(count: int) -> bool:
        hits = np.arange(min(left, count) + 1)
        too_many = np.floor((found + hits) / RECALL + 1e-9).astype(int) - found + 1  # fewest left that deny the claim
        chance = hypergeom.cdf(hits, pool, np.minimum(too_many, pool), count)
        claims = (too_many > pool) | (chance <= ALPHA)
        return float(hypergeom.pmf(hits, pool, left, count)[claims].sum()) >= power

    low, high = 0, max(min(most, pool), 0)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if succeeds(middle) else (middle + 1, high)
    return low


def main() -> None:
    """Prints one row a regime."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--simulations", type=int, default=1_000)
    parser.add_argument("--regimes", default=",".join(map(str, range(len(REGIMES)))))
    args = parser.parse_args()
    columns = ["pool", "wanted", "beyond reach", "false claims", "labels: median (mean)"]
    columns += ["test, 50 % power", "ratio", "test, 80 % power", "ratio"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for regime in (REGIMES[int(number)] for number in args.regimes.split(",")):
        runs = [campaign(regime, seed) for seed in range(args.simulations)]
        labels, false_claims = [stop for stop, _ in runs], sum(wrong for _, wrong in runs)
        half, most = fixed_sample(regime, 0.5)[0], fixed_sample(regime, 0.8)[0]
        middle = median(labels)
        row = [f"{regime.images:,}", f"{regime.share:.0%}", f"{regime.beyond:.0%}", f"{false_claims} of {len(runs):,}"]
        row += [f"{middle:,.0f} ({mean(labels):,.0f})"]
        row += [f"{half:,}", f"{middle / half:.2f}", f"{most:,}", f"{middle / most:.2f}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
