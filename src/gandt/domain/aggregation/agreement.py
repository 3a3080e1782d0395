# SPDX-License-Identifier: GPL-3.0-or-later
"""The original's rule without its defects: shares of votes after the votes of unreliable workers were left out.

One vote a worker, repeated labels once, reliability with the own vote left out, and an image that only unreliable
workers saw stays in the result, without a label. `compat.py` has the rule as it was.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.model import Fit, FitOptions, shares
from gandt.domain.aggregation.votes import Votes


def fit_agreement(votes: Votes, options: FitOptions, unreliable: NDArray[np.bool_]) -> Fit:
    """Shares of the votes of all workers but the unreliable ones.

    Args:
        unreliable: bool[W], measured and not good enough; workers that could not be measured count.
    Source:
        The original's filter_out_unreliable_workers.
    """
    options.check()
    return replace(Fit(shares(votes.without(unreliable))), left_out=unreliable)
