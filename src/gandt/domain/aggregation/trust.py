# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of how far labels can be trusted: by gold, and by an expert's audit."""

from __future__ import annotations

from dataclasses import dataclass

NOT_A_BOUND = "model estimate, not a bound"


def price_text(target: float, confidence: float, none_wrong: int, some_wrong: int, share: float) -> str:
    """What a bound costs, in words.

    >>> price_text(0.05, 0.95, 73, 243, 0.02)
    'error <= 5 % at 95 %: 73 images if none is wrong, 243 if 2 % are'
    """
    return (
        f"error <= {100 * target:g} % at {100 * confidence:g} %: {none_wrong:,} images if none is wrong, "
        f"{some_wrong:,} if {100 * share:.3g} % are"
    )


@dataclass(frozen=True, slots=True)
class Calibration:
    """How honest posteriors are, measured on images whose label is known.

    Attributes:
        images: known images measured on.
        brier: mean squared distance to the right label, in [0, 2]; `log_loss` mean negative log probability, in nats.
        error: expected calibration error of the top label in [0, 1]; None below 1,000 images.
        temperature: that posteriors are to be raised to the inverse of; None below 300 images drawn at random.
        drawn_at_random: whether the images were; of hand-picked ones the figures say little about the others.
    """

    images: int
    brier: float
    log_loss: float
    error: float | None
    temperature: float | None
    drawn_at_random: bool = True


@dataclass(frozen=True, slots=True)
class Audit:
    """What an expert's judgments of uniformly drawn settled images prove.

    Attributes:
        settled: images that are certain and not gold.
        judged: judgments that count, and `wrong` those of them that found another label.
        error_bound: share of wrong labels among the settled that is not exceeded, in [0, 1].
        confidence: probability with which the bound holds at every look.
        target: share to be bounded.
        if_none_wrong: price of that in judgments when none is wrong; `if_some_wrong` when `expected_share` is.
    """

    settled: int
    judged: int
    wrong: int
    error_bound: float
    confidence: float
    target: float
    if_none_wrong: int
    if_some_wrong: int
    expected_share: float
