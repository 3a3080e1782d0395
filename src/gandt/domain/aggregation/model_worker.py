# SPDX-License-Identifier: GPL-3.0-or-later
"""An image model's probabilities as the votes of one more worker, whose confusion is estimated like anybody's.

The model is trusted as far as the crowd's answers bear it out, not as far as it trusts itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.votes import Votes
from gandt.domain.errors import InvalidInput

NO_VOTE = -1


def model_votes(probability: NDArray[np.floating], images: Sequence[str] = ()) -> NDArray[np.int32]:
    """i32[N]: the likeliest class of each image, the first of equal ones; `NO_VOTE` where a row is NaN.

    Args:
        probability: f[N, K], rows sum to 1; a row of NaN where the model says nothing.
        images: ids of the rows, for the error.
    Raises:
        InvalidInput: rows that are no probabilities.
    """
    says = ~np.isnan(probability).all(axis=1)
    given = probability[says]
    # a NaN among numbers fails both comparisons
    bad = ~((given >= 0).all(axis=1) & (np.abs(given.sum(axis=1) - 1) <= 1e-3))
    if bad.any():
        row = int(np.flatnonzero(says)[np.argmax(bad)])
        of = f" (image {images[row]})" if images else ""
        raise InvalidInput(
            f"row {row}{of} of the model's probabilities is negative or does not sum to 1",
            field="probabilities",
            reason="BAD_PROBABILITY",
            fix="give each image's probabilities of all classes, as a softmax does",
        )
    vote = np.full(len(probability), NO_VOTE, np.int32)
    vote[says] = given.argmax(axis=1) if probability.shape[1] else NO_VOTE
    return vote


def with_model(votes: Votes, vote: NDArray[np.int32]) -> Votes:
    """The votes with one of the model for each item that it knows; the model is the last worker, number `workers`.

    Args:
        votes: one label each.
        vote: i32[I] class by item, or `NO_VOTE`.
    Source:
        H. W. Goh et al. 2022, "CROWDLAB", for the model as one more annotator; its weights are not used.
    """
    says = vote != NO_VOTE
    at = votes.item_ptr[1:][says]  # behind the item's own votes: workers ascend
    return replace(
        votes,
        item_ptr=votes.item_ptr + np.concatenate([np.zeros(1, np.int64), np.cumsum(says)]),
        item=np.insert(votes.item, at, np.flatnonzero(says)),
        worker=np.insert(votes.worker, at, votes.workers),
        label=np.insert(votes.label, at, vote[says]),
        workers=votes.workers + 1,
    )
