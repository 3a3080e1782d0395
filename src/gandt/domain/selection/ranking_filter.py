# SPDX-License-Identifier: GPL-3.0-or-later
"""The default filter: discard an exact share, or as much as costs at most a given share of the wanted images.

The original counts labels, so it discards two to three times what it was asked for. A ranking discards exactly as
asked, and loses several times fewer wanted images at the same share.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import Arm
from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.pool import Matrix, Pool
from gandt.domain.selection.space import fit_space
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.target_model import fit_each, has_negatives, weak_negatives
from gandt.domain.selection.training import TrainingSet

FOLDS = 5
SAMPLE_ROWS = 2_000  # pool images that a held-out image's depth is measured on: steps of 0.05 %
CONFIDENCE_LEFT = 0.05
_SEED = 0  # the filter's only randomness is the sample behind its representation


@dataclass(frozen=True)
class Ranked:
    """How likely each pool image is wanted.

    Attributes:
        scores: f64[N] by position; -inf where the vector cannot be compared.
        held_out: f64[n] in [0, 1], of each labeled wanted image the share of the pool below it, ascending, by models
            that did not see it.
        control: f64[c] the same of those that a control draw found: a uniform sample of the pool's wanted images.
        warnings: what stood in for what was missing.
    """

    scores: NDArray[np.float64]
    held_out: NDArray[np.float64]
    control: NDArray[np.float64]
    warnings: list[str]


def rank_pool(pool: Pool, training: TrainingSet, wanted: Collection[str]) -> Steps[Ranked]:
    """Scores the pool for the wanted labels.

    Raises:
        InvalidInput: no labeled image with a vector is wanted.
    """
    if not training.having(wanted).any():
        raise InvalidInput(
            f"no labeled image with a vector carries a wanted label ({', '.join(sorted(wanted)) or 'none named'})",
            field="labeled",
            reason="NO_WANTED_LABEL",
            fix="label some wanted images first",
        )
    warnings: list[str] = []
    if not pool.usable.any():
        return Ranked(np.full(len(pool), -np.inf), np.zeros(0), np.zeros(0), warnings)
    weak = None
    space = fit_space(pool, training, _SEED)
    if not has_negatives(training, wanted):
        weak = weak_negatives(pool, _SEED, 0)
        warnings.append("every labeled image is wanted, so a sample of the pool stands in for the rest")
    projected = space.project(training.vectors)
    targets = np.column_stack([training.soft([name]) for name in sorted(set(wanted))])  # [L, C]
    if weak is not None:
        projected = np.concatenate([projected, space.project(weak)])
        targets = np.concatenate([targets, np.zeros((len(weak), targets.shape[1]))])
    model = fit_each(projected, targets, _SEED, 0)
    scores = np.full(len(pool), -np.inf)
    done = 0
    for positions, vectors in pool.blocks():
        scores[positions] = np.round(model.score(space.project(vectors)), 6)
        done += len(positions)
        yield Progress("scoring", done, len(pool))
    scores[~pool.usable] = -np.inf
    sampled = space.project(pool.take(pool.sample(SAMPLE_ROWS, generator(_SEED, 0, Stream.SAMPLE))))
    depth = yield from _held_out(projected, targets, sampled)
    by_control = np.array(
        [arm == Arm.CONTROL for arm in training.arms] + [False] * (len(targets) - len(training)), bool
    )
    known = np.isfinite(depth)
    return Ranked(scores, np.sort(depth[known]), np.sort(depth[known & by_control]), warnings)


def discard_share(pool: Pool, ranked: Ranked, share: float) -> NDArray[np.bool_]:
    """bool[N] by position: exactly round(share * decidable) images, lowest scores first, ties by id."""
    order = _worst_first(pool, ranked)
    out = np.zeros(len(pool), bool)
    out[order[: int(np.floor(share * len(order) + 0.5))]] = True
    return out


def discard_by_loss(pool: Pool, ranked: Ranked, max_loss: float) -> NDArray[np.bool_]:
    """bool[N] by position: the worst images, as many as lose at most `max_loss` of the wanted ones.

    Wanted images that control draws found are a uniform sample of the pool's: the share lost below the m-th worst of n
    of them is Beta(m, n - m + 1), so its 95 % limit is a bound. Where they are too few for `max_loss`, the labeled
    wanted images of all arms stand in: a new one falls below their m-th worst with a chance of m / (n + 1) when it is
    as they are. A ranking picks easy images first, so that is an estimate, and a warning says so.
    """
    if max_loss >= 1.0:
        return discard_share(pool, ranked, 1.0)
    count = len(ranked.control)
    bounded = [m for m in range(1, count + 1) if loss_limit(m - 1, count) <= max_loss]
    if bounded:
        return discard_share(pool, ranked, float(ranked.control[bounded[-1] - 1]))
    allowed = int(np.floor(max_loss * (len(ranked.held_out) + 1) + 1e-9))
    if not allowed:
        ranked.warnings.append(
            f"{len(ranked.held_out)} labeled wanted images cannot show a loss below "
            f"{1 / (len(ranked.held_out) + 1):.3f}, so nothing is discarded; label more of them or allow more"
        )
        return np.zeros(len(pool), bool)
    needed = int(np.ceil(np.log(CONFIDENCE_LEFT) / np.log1p(-max_loss)))
    ranked.warnings.append(
        f"the loss is estimated, not bounded: a bound of {max_loss:g} needs {needed} wanted images from control draws, "
        f"{count} are known"
    )
    worst = ranked.held_out[min(allowed, len(ranked.held_out)) - 1]
    return discard_share(pool, ranked, 1.0 if allowed > len(ranked.held_out) else float(worst))


def loss_limit(lost: int, count: int) -> float:
    """Upper 95 % limit of the share of wanted images lost when `lost` of a uniform sample of `count` of them are.

    Source:
        C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits", 1934.

    >>> round(loss_limit(0, 59), 3), loss_limit(0, 0)
    (0.05, 1.0)
    """
    from scipy.special import betaincinv  # only where it is needed: 15 MB of memory

    return 1.0 if lost >= count else float(betaincinv(lost + 1, count - lost, 1.0 - CONFIDENCE_LEFT))


def losses(pool: Pool, ranked: Ranked, discarded: NDArray[np.bool_]) -> tuple[float, float]:
    """Estimate of the share of wanted images lost, and its 95 % limit by control draws; -1 where nothing tells."""
    usable = int(pool.usable.sum())
    share = float(discarded.sum()) / usable if usable else 0.0
    estimate = float((ranked.held_out < share).mean()) if len(ranked.held_out) else -1.0
    if not len(ranked.control):
        return estimate, -1.0
    return estimate, loss_limit(int((ranked.control < share).sum()), len(ranked.control)) if share else 0.0


def _worst_first(pool: Pool, ranked: Ranked) -> NDArray[np.int64]:
    decidable = np.flatnonzero(pool.usable)
    return decidable[np.lexsort((decidable, ranked.scores[decidable]))]


def _held_out(projected: Matrix, targets: Matrix, sampled: Matrix) -> Steps[NDArray[np.float64]]:
    """f64[L]: share of the sampled pool f64[S, K] that scores below each labeled image, by models that did not see it.

    NaN for images that are rather not wanted, and for all with fewer than two wanted ones. Shares of the pool can be
    compared between models, scores cannot.
    """
    target = targets.max(axis=1)
    out = np.full(len(target), np.nan)
    positive, negative = np.flatnonzero(target >= 0.5), np.flatnonzero(target < 0.5)
    folds = min(FOLDS, len(positive)) if len(positive) >= 2 * FOLDS else len(positive)
    if folds < 2 or len(negative) < 2 or not len(sampled):
        return out
    fold = np.empty(len(target), np.int64)
    fold[positive] = np.arange(len(positive)) % folds
    fold[negative] = np.arange(len(negative)) % folds
    for number in range(folds):
        seen = fold != number
        if not (target[seen] < 1).any():
            continue
        model = fit_each(projected[seen], targets[seen], _SEED, 0)
        rows = positive[fold[positive] == number]
        pool_scores = np.sort(np.round(model.score(sampled), 6))
        out[rows] = np.searchsorted(pool_scores, np.round(model.score(projected[rows]), 6)) / len(sampled)
        yield Progress("checking", number + 1, folds)
    return out
