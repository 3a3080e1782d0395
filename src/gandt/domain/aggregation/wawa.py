# SPDX-License-Identifier: GPL-3.0-or-later
"""Worker Agreement With Aggregate: votes weighted by how often the worker agrees with the plain majority."""

from __future__ import annotations

import numpy as np

from gandt.domain.aggregation.model import Fit, FitOptions, clamp_gold, shares
from gandt.domain.aggregation.votes import Votes

TIE = 1e-9


def fit_wawa(votes: Votes, options: FitOptions) -> Fit:
    """One pass: majority, each worker's agreement with it, weighted shares.

    A tie splits its credit evenly among the tied classes, so no draw is needed. Where all voters of an item have
    weight 0, their plain shares stand.

    Source:
        crowd-kit's Wawa (Appen); there a tie goes to the first class.
    """
    options.check()
    share = shares(votes)
    top = share >= share.max(axis=1, keepdims=True, initial=0.0) - TIE
    credit = top / top.sum(axis=1, keepdims=True)  # [I, K]
    agreed = np.bincount(votes.worker, weights=credit[votes.item, votes.label], minlength=votes.workers)
    given = np.bincount(votes.worker, minlength=votes.workers)
    skill = np.where(given > 0, agreed / np.maximum(given, 1), np.nan)
    weights = np.bincount(votes.cells(), weights=skill[votes.worker], minlength=share.size).reshape(share.shape)
    total = weights.sum(axis=1, keepdims=True)
    posterior = np.where(total > 0, weights / np.where(total > 0, total, 1.0), share)
    return Fit(clamp_gold(posterior, votes), accuracy=skill, iterations=1)
