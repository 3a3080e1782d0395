# SPDX-License-Identifier: GPL-3.0-or-later
"""What every method takes and gives, and the sparse sums that the EM methods share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from gandt.domain.aggregation.votes import MAX_CELLS, NO_GOLD, Votes
from gandt.domain.errors import InvalidInput

SMALLEST = 1e-10
"""Probabilities are kept at least this far from 0 before a logarithm; crowd-kit's clip."""
SHORT_ROW = 32


def _no_check() -> None:
    return None


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit.

    Attributes:
        check: called once an iteration; raises when nobody waits any more.
        start: f64[I, K] posterior to begin with, or None for the shares of votes; for several labels an item the
            probability of each. NaN where nothing is known of an item.
        starts: the same for each model of a method that has several.
        tolerance: the fit has converged when no posterior moves by this much or more,
        mean_tolerance: or when they move by less than this on average.
        iterations: most iterations.
    """

    check: Callable[[], None] = _no_check
    start: NDArray[np.float64] | None = None
    starts: Sequence[NDArray[np.float64]] = ()
    tolerance: float = 1e-4
    mean_tolerance: float = 1e-5
    iterations: int = 100


@dataclass(frozen=True, slots=True)
class Fit:
    """A method's result.

    Attributes:
        posterior: f64[I, K], rows sum to 1.
        accuracy: f64[W] estimated accuracy in [0, 1] (NaN without a vote), or None when the method has no worker model.
        confusion: f64[W, K, K] row = true class, column = given class, or None.
        iterations, converged: of the fit.
        parts: posteriors of the models that the method puts together; () when it is one.
    """

    posterior: NDArray[np.float64]
    accuracy: NDArray[np.float64] | None = None
    confusion: NDArray[np.float64] | None = None
    iterations: int = 0
    converged: bool = True
    parts: Sequence[NDArray[np.float64]] = ()


class SingleMethod(Protocol):
    """Fits votes with one label each."""

    def __call__(self, votes: Votes, options: FitOptions) -> Fit:
        """Posterior of every item; gold items are certain, items without a vote get the class prior."""
        ...


def weighted_count(
    index: NDArray[np.integer], weights: NDArray[np.floating | np.bool_], length: int
) -> NDArray[np.float64]:
    """f64[length]: sum of the weights at each index."""
    result: NDArray[np.float64] = np.bincount(index, weights=weights, minlength=length).astype(np.float64, copy=False)
    return result


def shares(votes: Votes) -> NDArray[np.float64]:
    """f64[I, K] share of votes for each class; uniform without a vote, certain where gold."""
    counts = votes.counts()
    total = counts.sum(axis=1, keepdims=True)
    uniform = 1.0 / max(votes.classes, 1)
    return clamp_gold(np.where(total > 0, counts / np.maximum(total, 1), uniform), votes)


def first_posterior(votes: Votes, options: FitOptions) -> NDArray[np.float64]:
    """f64[I, K] where a fit begins: the start, or the shares of votes."""
    if options.start is None:
        return shares(votes)
    unknown = np.isnan(options.start[:, :1])
    return clamp_gold(np.where(unknown, shares(votes), options.start), votes)


def clamp_gold(posterior: NDArray[np.float64], votes: Votes) -> NDArray[np.float64]:
    """Sets the rows of gold items to certainty, in place, and returns the array."""
    known = np.flatnonzero(votes.gold != NO_GOLD)
    posterior[known] = 0.0
    posterior[known, votes.gold[known]] = 1.0
    return posterior


def softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[I, K] log scores to probabilities, row by row, in place; large negative scores do no harm."""
    scores -= _over_classes(np.maximum, scores)[:, None]
    np.exp(scores, out=scores)
    scores /= _over_classes(np.add, scores)[:, None]
    return scores


def _over_classes(combine: np.ufunc, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[I] of f64[I, K]; column by column, which is four times as fast as NumPy's reduction of short rows."""
    classes = values.shape[1]
    if not 0 < classes <= SHORT_ROW:
        return np.asarray(combine.reduce(values, axis=1))
    result = values[:, 0].copy()
    for k in range(1, classes):
        combine(result, values[:, k], out=result)
    return result


def class_prior(posterior: NDArray[np.float64], votes: Votes, strength: float = 1.0) -> NDArray[np.float64]:
    """f64[K] mean posterior of items with a vote and no gold, with `strength` extra items of each class.

    Gold is planted by hand, so it says nothing about how common a class is.
    """
    free = (votes.gold == NO_GOLD) & (votes.sizes() > 0)
    mass = free.astype(np.float64) @ posterior + strength
    total: NDArray[np.float64] = mass / mass.sum() if mass.sum() > 0 else np.full(votes.classes, 1 / votes.classes)
    return total


class Codes:
    """The (worker, given class) pairs that occur, ascending by worker, then class.

    Args:
        raw: i64[C] `worker * classes + class`, ascending.
    Attributes:
        worker, label: i64[C] of each code.
    """

    def __init__(self, raw: NDArray[np.int64], workers: int, classes: int) -> None:
        self.worker, self.label = raw // classes, raw % classes
        self.workers, self.classes = workers, classes

    def over_codes(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """f64[W, K]: sum over a worker's codes of f64[C, K]."""
        result = np.zeros((self.workers, values.shape[1]))
        if len(self.worker):
            starts = np.flatnonzero(np.diff(self.worker, prepend=-1))
            result[self.worker[starts]] = np.add.reduceat(values, starts, axis=0)
        return result

    def diagonal(self, counts: NDArray[np.float64]) -> NDArray[np.float64]:
        """f64[W]: expected right votes, from f64[C, K] expected counts."""
        right = counts[np.arange(len(self.label)), self.label]
        return weighted_count(self.worker, right, self.workers)


class CodeSums(Codes):
    """Sums over votes as two sparse-dense products.

    Raises:
        InvalidInput: so many workers and classes, or codes and classes, that sums over them do not fit.
    """

    def __init__(self, votes: Votes) -> None:
        _check_cells(votes.workers, "workers", votes.classes)
        raw = votes.worker.astype(np.int64) * votes.classes + votes.label
        present = np.zeros(votes.workers * votes.classes, np.bool_)
        present[raw] = True
        codes = np.flatnonzero(present)
        _check_cells(len(codes), "different answers of workers", votes.classes)
        super().__init__(codes, votes.workers, votes.classes)
        place = np.cumsum(present) - 1
        ones = np.ones(len(raw))
        shape = (votes.items, len(codes))
        self._by_item = csr_array((ones, place[raw].astype(np.int32), votes.item_ptr.astype(np.int32)), shape=shape)
        self._by_code = csr_array(self._by_item.T.tocsr())

    def over_items(self, posterior: NDArray[np.float64]) -> NDArray[np.float64]:
        """f64[C, K]: expected number of votes of each code on items of each class."""
        result: NDArray[np.float64] = self._by_code @ posterior
        return result

    def over_votes(self, log_error: NDArray[np.float64]) -> NDArray[np.float64]:
        """f64[I, K]: sum over an item's votes of f64[C, K]."""
        result: NDArray[np.float64] = self._by_item @ log_error
        return result


def _check_cells(rows: int, what: str, classes: int) -> None:
    if rows * classes > MAX_CELLS:
        raise InvalidInput(
            f"{rows:,} {what} with {classes:,} classes are more than fit",
            field="classes",
            reason="TOO_MUCH_DATA",
            fix="aggregate fewer answers at a time, or with fewer classes",
        )


def settle(
    step: Callable[[NDArray[np.float64]], NDArray[np.float64]], start: NDArray[np.float64], options: FitOptions
) -> tuple[NDArray[np.float64], int, bool]:
    """Repeats `step` (posterior to posterior) until nothing moves; returns posterior, iterations, converged."""
    posterior = start
    for iteration in range(1, options.iterations + 1):
        options.check()
        moved = step(posterior)
        change = np.abs(moved - posterior)
        posterior = moved
        if change.max(initial=0.0) < options.tolerance or change.mean() < options.mean_tolerance:
            return posterior, iteration, True
    return posterior, options.iterations, False
