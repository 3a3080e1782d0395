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

from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.pool import Matrix, Pool
from gandt.domain.selection.space import fit_space
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.target_model import fit_soft, fit_target, has_negatives, weak_negatives
from gandt.domain.selection.training import TrainingSet

FOLDS = 5
_SEED = 0  # the filter's only randomness is the sample behind its representation


@dataclass(frozen=True)
class Ranked:
    """How likely each pool image is wanted.

    Attributes:
        scores: f64[N] by position; -inf where the vector cannot be compared.
        held_out: scores of the labeled wanted images by models that did not see them, ascending.
        warnings: what stood in for what was missing.
    """

    scores: NDArray[np.float64]
    held_out: NDArray[np.float64]
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
        return Ranked(np.full(len(pool), -np.inf), np.zeros(0), warnings)
    weak = None
    space = fit_space(pool, training, _SEED)
    if not has_negatives(training, wanted):
        weak = weak_negatives(pool, _SEED, 0)
        warnings.append("every labeled image is wanted, so a sample of the pool stands in for the rest")
    model = fit_target(training, wanted, space, _SEED, 0, weak)
    scores = np.full(len(pool), -np.inf)
    done = 0
    for positions, vectors in pool.blocks():
        scores[positions] = np.round(model.score(space.project(vectors)), 6)
        done += len(positions)
        yield Progress("scoring", done, len(pool))
    scores[~pool.usable] = -np.inf
    projected, target = space.project(training.vectors), training.soft(wanted)
    if weak is not None:
        projected = np.concatenate([projected, space.project(weak)])
        target = np.concatenate([target, np.zeros(len(weak))])
    held_out = yield from _held_out(projected, target)
    return Ranked(scores, held_out, warnings)


def discard_share(pool: Pool, ranked: Ranked, share: float) -> NDArray[np.bool_]:
    """bool[N] by position: exactly round(share * decidable) images, lowest scores first, ties by id."""
    order = _worst_first(pool, ranked)
    out = np.zeros(len(pool), bool)
    out[order[: int(np.floor(share * len(order) + 0.5))]] = True
    return out


def discard_by_loss(pool: Pool, ranked: Ranked, max_loss: float) -> NDArray[np.bool_]:
    """bool[N] by position: images below a score that wanted images fall below with a chance of at most `max_loss`.

    The chance of a new wanted image to score below the m-th smallest of n held-out wanted ones is at most m / (n + 1)
    when it is as the labeled ones are; labeled images that a ranking picked are easier than the rest, so this is an
    estimate for the pool and a bound only for images like the labeled ones.
    """
    order = _worst_first(pool, ranked)
    allowed = int(np.floor(max_loss * (len(ranked.held_out) + 1) + 1e-9))
    out = np.zeros(len(pool), bool)
    if allowed > len(ranked.held_out):
        out[order] = True
    elif allowed:
        out[order] = ranked.scores[order] < ranked.held_out[allowed - 1]
    else:
        ranked.warnings.append(
            f"{len(ranked.held_out)} labeled wanted images cannot show a loss below "
            f"{1 / (len(ranked.held_out) + 1):.3f}, so nothing is discarded; label more of them or allow more"
        )
    return out


def estimated_loss(ranked: Ranked, discarded: NDArray[np.bool_]) -> float:
    """Share of held-out wanted images that score below everything kept; -1 when there are none to tell by."""
    if not len(ranked.held_out):
        return -1.0
    kept = ranked.scores[~discarded & np.isfinite(ranked.scores)]
    lowest = kept.min() if len(kept) else np.inf
    return float((ranked.held_out < lowest).mean()) if discarded.any() else 0.0


def _worst_first(pool: Pool, ranked: Ranked) -> NDArray[np.int64]:
    decidable = np.flatnonzero(pool.usable)
    return decidable[np.lexsort((decidable, ranked.scores[decidable]))]


def _held_out(projected: Matrix, target: NDArray[np.float64]) -> Steps[NDArray[np.float64]]:
    """Cross-validated scores of the images that are more likely wanted than not, ascending; empty with fewer than 2."""
    positive, negative = np.flatnonzero(target >= 0.5), np.flatnonzero(target < 0.5)
    folds = min(FOLDS, len(positive)) if len(positive) >= 2 * FOLDS else len(positive)
    if folds < 2 or len(negative) < 2:
        return np.zeros(0)
    fold = np.empty(len(target), np.int64)
    fold[positive] = np.arange(len(positive)) % folds
    fold[negative] = np.arange(len(negative)) % folds
    scores = []
    for number in range(folds):
        seen = fold != number
        if not (target[seen] < 1).any():
            continue
        model = fit_soft(projected[seen], target[seen], _SEED, 0)
        scores.append(model.score(projected[positive[fold[positive] == number]]))
        yield Progress("checking", number + 1, folds)
    return np.asarray(np.round(np.sort(np.concatenate(scores)), 6)) if scores else np.zeros(0)
