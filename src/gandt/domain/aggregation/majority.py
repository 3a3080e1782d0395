# SPDX-License-Identifier: GPL-3.0-or-later
"""Majority vote: the share of votes for each class. Ties are reported as ties, never drawn."""

from __future__ import annotations

from gandt.domain.aggregation.model import Fit, FitOptions, shares
from gandt.domain.aggregation.votes import Votes


def fit_majority(votes: Votes, options: FitOptions) -> Fit:
    """Shares of votes as posteriors; workers count alike."""
    options.check()
    return Fit(shares(votes))
