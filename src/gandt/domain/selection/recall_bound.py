# SPDX-License-Identifier: GPL-3.0-or-later
"""A lower bound of recall that holds at every look, from the control draws alone.

Looking at an ordinary confidence interval after each round and stopping when it pleases makes false claims in many
campaigns. This bound may be looked at as often as one likes: over all looks together it is wrong with probability at
most alpha. It is of the labels as given; wrong labels are beyond it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.selection.prevalence import ControlDraw

SHARES = (0.98, 0.96, 0.94, 0.92, 0.90, 0.85, 0.80, 0.70, 0.50)
"""Alternatives that the evidence is spread over: that there are only this share of the targets supposed."""

EVERY_NUMBER = 20_000  # numbers of targets up to here are supposed one by one, larger ones in steps of STEP
STEP = 1.0005


class RecallBound:
    """Collects draws and bounds the number of targets from above.

    For each supposed number of targets K0 it keeps an e-process: the likelihood ratio of "only g * K0 targets" to
    "K0 targets", averaged over the shares g. Under K0 its expectation stays 1 at every look, so it reaches 1 / alpha
    with probability at most alpha (Ville's inequality), and every K0 that it has not refuted remains possible. A
    refuted K0 stays refuted, so it is dropped, and the work of a draw shrinks with what is still possible.

    Args:
        images: N, all images that targets are counted among.
        alpha: chance of a false claim over all looks, in (0, 1).
    Source:
        J. Ville, 1939; I. Waudby-Smith, A. Ramdas, "Confidence sequences for sampling without replacement", 2020.
    """

    def __init__(self, images: int, alpha: float = 0.1) -> None:
        if not 0.0 < alpha < 1.0:
            raise InvalidInput(f"alpha is {alpha}, it must lie in (0, 1)", field="alpha", reason="BAD_SHARE")
        self._images = images
        self._limit = np.log(1.0 / alpha)
        self._supposed = _numbers(images)  # i64[M] K0
        self._up_to = np.append(self._supposed[1:] - 1, images)  # a K0 stands for all numbers below the next one
        self._fewer = np.array([np.ceil(share * self._supposed - 1e-9) for share in SHARES], np.int64)  # [G, M]
        self._ratios = np.zeros(self._fewer.shape)  # log likelihood ratios
        self._log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, images + 2)))])

    def add(self, draw: ControlDraw) -> None:
        """Takes the next draw into account; draws come in the order in which they were made.

        Raises:
            InvalidInput: the draw does not fit into so many images.
        """
        if draw.pool + draw.found_before > self._images:
            raise InvalidInput(
                f"{draw.pool} unlabeled and {draw.found_before} found images are more than {self._images}",
                field="draws",
                reason="BAD_DRAW",
            )
        if not len(self._supposed):
            return
        most_left = min(draw.pool, int(self._supposed[-1]) - draw.found_before)
        likelihood = self._log_likelihood(draw, most_left)  # by targets left in the pool
        supposed = _at(likelihood, self._supposed - draw.found_before)
        with np.errstate(invalid="ignore"):
            self._ratios += _at(likelihood, self._fewer - draw.found_before) - supposed
        keep = np.isfinite(supposed)
        keep[keep] = self._evidence(self._ratios[:, keep]) < self._limit
        self._supposed, self._up_to = self._supposed[keep], self._up_to[keep]
        self._fewer, self._ratios = self._fewer[:, keep], self._ratios[:, keep]

    def most_targets(self) -> int:
        """K_up: the largest number of targets that is not refuted."""
        return int(self._up_to[-1]) if len(self._up_to) else 0

    def recall(self, found: int) -> float:
        """Lower bound in [0, 1] of the share of all targets that is found.

        Args:
            found: F, targets known now, seeds included.
        """
        most = max(self.most_targets(), found)
        return found / most if most else 1.0

    @staticmethod
    def _evidence(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
        """f64[M] log of the e-process of each supposed number."""
        top = ratios.max(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.log(np.exp(ratios - top).mean(axis=0)) + top
        return np.where(np.isfinite(top), mean, -np.inf)

    def _log_likelihood(self, draw: ControlDraw, most_left: int) -> NDArray[np.float64]:
        """f64[most_left + 1] log chance of the draw if so many targets are in the pool, up to a constant."""
        left = np.arange(most_left + 1)
        missed = draw.drawn - draw.targets
        fits = (left >= draw.targets) & (draw.pool - left >= missed)
        out = np.full(most_left + 1, -np.inf)
        r = left[fits]
        f = self._log_factorial
        out[fits] = f[r] - f[r - draw.targets] + f[draw.pool - r] - f[draw.pool - r - missed]
        return out


def recall_bound(draws: Iterable[ControlDraw], found: int, images: int, alpha: float = 0.1) -> float:
    """Lower bound of recall after some draws; see RecallBound.

    >>> round(recall_bound([ControlDraw(pool=900, drawn=800, targets=0, found_before=20)], 20, 1000), 2)
    0.95
    """
    bound = RecallBound(images, alpha)
    for draw in draws:
        bound.add(draw)
    return bound.recall(found)


def _numbers(images: int) -> NDArray[np.int64]:
    """0 to N, thinned out above EVERY_NUMBER so that a pool of millions costs no more than a large one."""
    if images <= EVERY_NUMBER:
        return np.arange(images + 1)
    steps = int(np.ceil(np.log(images / EVERY_NUMBER) / np.log(STEP)))
    above = np.floor(EVERY_NUMBER * STEP ** np.arange(1, steps + 1)).astype(np.int64)
    return np.concatenate([np.arange(EVERY_NUMBER + 1), np.unique(above[above <= images])])


def _at(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    """values[index], -inf outside."""
    inside = (index >= 0) & (index < len(values))
    return np.where(inside, values[np.clip(index, 0, len(values) - 1)], -np.inf)
