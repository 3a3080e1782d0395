# SPDX-License-Identifier: GPL-3.0-or-later
"""What a campaign's control draws prove: the share of wanted images found, their number, the gain over random choice.

The labels as they are now are taken for every draw, also for early ones: the bound speaks of the labels that people
agree on ("of consensus labels"), and a label that was corrected later counts as corrected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import comb, sqrt
from statistics import NormalDist
from typing import Any

from gandt.domain.selection.phases import Phase
from gandt.domain.selection.prevalence import ControlDraw, prevalence
from gandt.domain.selection.recall_bound import RecallBound

FEW_GOLD = 10  # fewer gold targets than this measure no sensitivity


@dataclass(frozen=True, slots=True)
class Sampled:
    """Labeled picks of one draw in one stratum.

    A stratum is the images that were new in the pool when a round was selected: those of the start, and every later
    arrival. A uniform draw from the whole pool is a uniform draw from each stratum, given how many fell into it.

    Attributes:
        round, part: the draw; a round may be selected in parts, each with a control draw of its own.
        stratum: number of the round that first had these images in its pool.
        pool: U, images of the stratum that the control images were drawn from.
        control, control_targets: control images, and the targets among them.
        main, main_targets: other picks, and the targets among them.
        unresolved: picks whose answers, if any, made no label.
    """

    round: int
    part: int
    stratum: int
    pool: int
    control: int
    control_targets: int
    main: int = 0
    main_targets: int = 0
    unresolved: int = 0


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """How many gold targets the workers recognized."""

    recognized: int
    asked: int

    @property
    def is_measured(self) -> bool:
        """Whether enough gold targets were asked about to say anything."""
        return self.asked >= FEW_GOLD

    def low(self, alpha: float) -> float:
        """Lower bound of the share recognized, one-sided, exact (C. Clopper, E. Pearson, 1934)."""
        return binomial_low(self.recognized, self.asked, alpha)


NO_GOLD = Sensitivity(0, 0)


@dataclass(frozen=True, slots=True)
class Proof:
    """What is proven at this look.

    Attributes:
        recall: lower bound of the share of targets that is found, in [0, 1].
        confidence: 1 - alpha, over all looks together.
        found: targets known, seeds included.
        most_targets: K_up, the largest number of targets that is not refuted, picks without a label included.
        control, control_targets: images drawn uniformly, and the targets among them.
        total, standard_error: unbiased estimate of all targets; None without a control draw in every stratum.
        gain, gain_low, gain_high: targets per main pick over targets per control image of the same rounds, with its
            95 % interval; None when neither found anything, or nothing can be compared.
        pool: images that the bound is about.
        strata: 1, and one more for each round that had new arrivals.
        unresolved: picks without a label; each is taken for a target that was not found.
        phase: what the next round is for.
        sensitivity: gold targets recognized; it turns a bound of consensus labels into one of the truth.
        true_recall: lower bound of the share of true targets that is found; None unless sensitivity was measured.
        draws: the control draws, in order, where there is one stratum; () otherwise.
    """

    recall: float
    confidence: float
    found: int
    most_targets: int
    control: int
    control_targets: int
    pool: int
    strata: int = 1
    unresolved: int = 0
    total: float | None = None
    standard_error: float | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    phase: Phase = Phase.FIND
    sensitivity: Sensitivity = NO_GOLD
    true_recall: float | None = None
    draws: tuple[ControlDraw, ...] = ()

    @property
    def sentence(self) -> str:
        """The claim in words, with what it rests on."""
        if not self.control:
            return "nothing is proven of the images that were not labeled: there were no control draws"
        text = (
            f"with {self.confidence:.0%} confidence at least {floor_percent(self.recall)} of the wanted images (of "
            f"consensus labels) are found: {self.found:,} known, {self.most_targets:,} at most, by {self.control:,} "
            "images drawn uniformly"
        )
        if self.true_recall is not None:
            seen = f"{self.sensitivity.recognized} of {self.sensitivity.asked} gold images"
            text += (
                f"; at least {floor_percent(self.true_recall)} of the truly wanted ones, as workers recognized {seen}"
            )
        return text

    def to_json(self) -> dict[str, Any]:
        """Plain values, the claim in words among them."""
        values = asdict(self) | {"phase": self.phase.value, "claim": self.sentence, "labels": "consensus labels"}
        del values["draws"]
        return values


def floor_percent(share: float) -> str:
    """A share rounded down, so that the words claim no more than the figures: 79.96 % is `79.9 %`."""
    return f"{int(share * 1000 + 1e-9) / 10:.1f} %"


def proof_of(
    samples: Iterable[Sampled],
    seeds: int,
    confidence: float = 0.9,
    sensitivity: Sensitivity = NO_GOLD,
    phase: Phase = Phase.FIND,
    unresolved: int = 0,
) -> Proof:
    """Everything that the control draws say.

    With S strata each is bounded at alpha / S and the bounds are added; so every claim about a given set of images
    is false with probability at most alpha over all looks. With a measured sensitivity the recall of consensus labels
    and the sensitivity are bounded at alpha / 2 each; their product bounds the recall of true targets.

    Args:
        samples: labeled draws of all rounds.
        seeds: targets known beforehand; they are counted with the first stratum.
        unresolved: picks without a label outside of the samples (of rounds that were given up).
    """
    rows = sorted(samples, key=lambda s: (s.round, s.part, s.stratum))
    strata = {row.stratum: [r for r in rows if r.stratum == row.stratum] for row in rows}
    first = min(strata, default=1)
    known = {stratum: seeds if stratum == first else 0 for stratum in strata}
    draws = {stratum: _draws(own, known[stratum]) for stratum, own in strata.items()}
    found = seeds + sum(row.control_targets + row.main_targets for row in rows)
    unresolved += sum(row.unresolved for row in rows)
    sizes = {s: max(d.pool + d.found_before for d in own) for s, own in draws.items()}

    # Certain without any draw: what is known and all that is left unlabeled.
    certain = {s: _known(own, known[s]) + own[-1].pool - own[-1].control - own[-1].main for s, own in strata.items()}

    def most(alpha: float) -> int:
        up = sum(min(_most(draws[s], sizes[s], alpha / len(draws)), certain[s]) for s in draws) + unresolved
        return max(up, found)

    alpha = 1.0 - confidence
    most_targets = most(alpha)
    recall = found / most_targets if most_targets else 1.0
    true_recall = None
    if sensitivity.is_measured:
        bound = most(alpha / 2)
        true_recall = (found / bound if bound else 1.0) * sensitivity.low(alpha / 2)
    total, error = _total(draws, sizes)
    gain, gain_low, gain_high = _gain(rows)
    return Proof(
        recall=recall if any(row.control for row in rows) else 0.0,
        confidence=confidence,
        found=found,
        most_targets=most_targets,
        control=sum(row.control for row in rows),
        control_targets=sum(row.control_targets for row in rows),
        pool=sum(sizes.values()),
        strata=max(len(strata), 1),
        unresolved=unresolved,
        total=total,
        standard_error=error,
        phase=phase,
        sensitivity=sensitivity,
        true_recall=true_recall,
        gain=gain,
        gain_low=gain_low,
        gain_high=gain_high,
        draws=tuple(d for d in draws[first] if d.drawn) if len(draws) == 1 else (),
    )


def _known(rows: Sequence[Sampled], known: int) -> int:
    return known + sum(row.control_targets + row.main_targets for row in rows)


def _draws(rows: Sequence[Sampled], known: int) -> list[ControlDraw]:
    """The stratum's draws in order, each with the targets known before it."""
    out = []
    for row in rows:
        out.append(ControlDraw(row.pool, row.control, row.control_targets, known))
        known += row.control_targets + row.main_targets
    return out


def _most(draws: Sequence[ControlDraw], images: int, alpha: float) -> int:
    bound = RecallBound(images, alpha)
    for draw in draws:
        if draw.drawn:
            bound.add(draw)
    return bound.most_targets()


def _total(draws: dict[int, list[ControlDraw]], sizes: dict[int, int]) -> tuple[float | None, float | None]:
    """Estimate of all targets over the strata, and its standard error."""
    estimates = [prevalence(own, sizes[stratum]) for stratum, own in draws.items()]
    known = [one for one in estimates if one is not None]
    if not known or len(known) < len(estimates):
        return None, None
    return sum(one.total for one in known), sqrt(sum(one.standard_error**2 for one in known))


def _gain(rows: Sequence[Sampled]) -> tuple[float | None, float | None, float | None]:
    """Main picks against the control draws made beside them: given all targets, the main picks' share is binomial."""
    drawn: dict[tuple[int, int], int] = {}
    for row in rows:
        drawn[row.round, row.part] = drawn.get((row.round, row.part), 0) + row.main
    beside = [row for row in rows if drawn[row.round, row.part]]
    main, control = sum(r.main for r in beside), sum(r.control for r in beside)
    hits, chance = sum(r.main_targets for r in beside), sum(r.control_targets for r in beside)
    if not main or not control or not hits + chance:
        return None, None, None

    def odds(share: float) -> float | None:
        return share / (1.0 - share) * control / main if share < 1.0 else None

    low = binomial_low(hits, hits + chance, 0.025)
    high = 1.0 - binomial_low(chance, hits + chance, 0.025)
    return odds(hits / (hits + chance)), odds(low), odds(high)


def binomial_low(hits: int, tries: int, alpha: float) -> float:
    """One-sided lower confidence bound of a share, exact: the p with P(X >= hits) = alpha.

    >>> round(binomial_low(10, 10, 0.05), 3)
    0.741
    """
    if hits == 0:
        return 0.0
    if tries > 1_000:  # the exact sum gets slow, and Wilson's bound is close
        z, share = NormalDist().inv_cdf(1.0 - alpha), hits / tries
        middle, spread = share + z * z / (2 * tries), z * sqrt(share * (1 - share) / tries + (z / (2 * tries)) ** 2)
        return max(0.0, (middle - spread) / (1 + z * z / tries))
    low, high = 0.0, hits / tries
    for _ in range(60):
        p = (low + high) / 2
        tail = sum(comb(tries, k) * p**k * (1 - p) ** (tries - k) for k in range(hits, tries + 1))
        low, high = (p, high) if tail < alpha else (low, p)
    return low
