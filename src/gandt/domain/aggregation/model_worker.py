# SPDX-License-Identifier: GPL-3.0-or-later
"""An image model's probabilities as the votes of one more worker, whose confusion is estimated like anybody's.

The model is trusted as far as the crowd's answers bear it out, not as far as it trusts itself.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.votes import Votes
from gandt.domain.errors import InvalidInput


def with_model(votes: Votes, probability: NDArray[np.floating]) -> Votes:
    """The votes with one of the model for each item that it knows; the model is the last worker, number `workers`.

    The vote is the model's likeliest class, the first of equal ones.

    Args:
        votes: one label each.
        probability: f[I, K] by item and class, rows sum to 1; a row of NaN where the model says nothing.
    Raises:
        InvalidInput: another shape, or rows that are no probabilities.
    Source:
        H. W. Goh et al. 2022, "CROWDLAB", for the model as one more annotator; its weights are not used.
    """
    if probability.shape != (votes.items, votes.classes):
        raise InvalidInput(
            f"the model's probabilities are {probability.shape}, the answers need {(votes.items, votes.classes)}",
            field="probability",
            reason="WRONG_LENGTH",
        )
    says = ~np.isnan(probability).all(axis=1)
    given = probability[says]
    if not (given >= 0).all() or not np.allclose(given.sum(axis=1), 1, atol=1e-3):
        raise InvalidInput("a row of the model's probabilities is negative or does not sum to 1", field="probability")
    at = votes.item_ptr[1:][says]  # behind the item's own votes: workers ascend
    return replace(
        votes,
        item_ptr=votes.item_ptr + np.concatenate([np.zeros(1, np.int64), np.cumsum(says)]),
        item=np.insert(votes.item, at, np.flatnonzero(says)),
        worker=np.insert(votes.worker, at, votes.workers),
        label=np.insert(votes.label, at, given.argmax(axis=1) if votes.classes else 0),
        workers=votes.workers + 1,
    )
