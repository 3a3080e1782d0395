# SPDX-License-Identifier: GPL-3.0-or-later
"""A model beside the crowd: a good one helps, a poor one does not hurt, and its accuracy is found out."""

from __future__ import annotations

import numpy as np
import pytest

from gandt.domain.aggregation.blend import fit_blend
from gandt.domain.aggregation.model import FitOptions
from gandt.domain.aggregation.model_worker import model_votes, with_model
from gandt.domain.aggregation.records import AggregateSpec
from gandt.domain.aggregation.votes import Votes, count_votes
from gandt.domain.errors import InvalidInput
from tests.unit.aggregation.builders import crowd, table


def planted(seed: int, images: int = 600) -> tuple[Votes, np.ndarray]:
    rows, truth = crowd(images, 4, 3, seed)
    votes = count_votes(table(rows), AggregateSpec(), {}).votes
    assert isinstance(votes, Votes)
    return votes, np.array([int(truth[name][1:]) for name in sorted(truth)])


def model(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    """f64[I, 4] probabilities whose top is right for that share, and always 0.9 sure."""
    rng = np.random.default_rng(seed)
    wrong = (truth + rng.integers(1, 4, len(truth))) % 4
    top = np.where(rng.random(len(truth)) < share, truth, wrong)
    return np.full((len(truth), 4), 0.1 / 3) + np.eye(4)[top] * (0.9 - 0.1 / 3)


def right(votes: Votes, truth: np.ndarray) -> float:
    return float((fit_blend(votes, FitOptions()).posterior.argmax(axis=1) == truth).mean())


def test_a_good_model_helps_and_a_middling_one_does_not_hurt() -> None:
    gains: dict[float, list[float]] = {0.75: [], 0.9: []}
    for seed in range(6):
        votes, truth = planted(seed)
        alone = right(votes, truth)
        for share, found in gains.items():
            found.append(right(with_model(votes, model_votes(model(truth, share, seed))), truth) - alone)
    assert np.mean(gains[0.75]) > 0
    assert np.mean(gains[0.9]) > 0.02


def test_a_useless_model_is_found_out_whatever_it_claims() -> None:
    votes, truth = planted(1)
    both = with_model(votes, model_votes(model(truth, 0.25, 1)))
    fit = fit_blend(both, FitOptions())
    assert fit.accuracy is not None
    assert fit.accuracy[-1] == pytest.approx(0.25, abs=0.07)
    assert right(both, truth) >= right(votes, truth) - 0.02


def test_the_model_votes_last_and_only_where_it_says_something() -> None:
    votes, truth = planted(2, images=30)
    says = model(truth, 1.0, 2)
    says[[0, 29]] = np.nan
    both = with_model(votes, model_votes(says))
    assert (both.sizes() - votes.sizes()).tolist() == [0, *[1] * 28, 0]
    assert np.array_equal(both.item, np.repeat(np.arange(30), both.sizes()))
    mine = both.worker == votes.workers
    assert np.array_equal(both.label[mine], truth[1:29])
    assert np.array_equal(both.label[~mine], votes.label)


@pytest.mark.parametrize("row", [[1.0, 1.0], [-0.5, 1.5], [0.5, float("nan")], [0.2, 0.2]])
def test_what_is_no_probability_is_refused_with_its_row(row: list[float]) -> None:
    with pytest.raises(InvalidInput, match="row 2") as caught:
        model_votes(np.array([[0.5, 0.5], [np.nan, np.nan], row]))
    assert caught.value.reason == "BAD_PROBABILITY"
