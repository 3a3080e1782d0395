# SPDX-License-Identifier: GPL-3.0-or-later
"""A supposed truth: the expected share, what is known kept, another truth for another seed."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput
from gandt.domain.selection.supposed_truth import suppose_truth

IDS = [f"image-{number:04}" for number in range(2_000)]
WANTED = 200  # the first images lie in the wanted cluster
KNOWN = {IDS[i]: ("owl",) for i in range(5)} | {IDS[i]: ("other",) for i in range(1_000, 1_020)}


@pytest.fixture(scope="module")
def vectors() -> NDArray[np.float32]:
    draw = np.random.default_rng(3)
    matrix = draw.normal(size=(len(IDS), 16))
    matrix[:WANTED] += 2.0
    return matrix.astype(np.float32)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_the_share_of_wanted_images_is_the_expected_one(vectors: NDArray[np.float32], share: float) -> None:
    truth = suppose_truth(IDS, vectors, KNOWN, ["owl"], share, seed=1)
    assert set(truth) == set(IDS)
    found = sum(labels == ("owl",) for labels in truth.values()) / len(IDS)
    assert found == pytest.approx(share, abs=0.025)
    assert {image: truth[image] for image in KNOWN} == KNOWN


def test_wanted_images_are_those_that_look_wanted(vectors: NDArray[np.float32]) -> None:
    truth = suppose_truth(IDS, vectors, KNOWN, ["owl"], 0.1, seed=1)
    inside = sum(truth[image] == ("owl",) for image in IDS[:WANTED]) / WANTED
    outside = sum(truth[image] == ("owl",) for image in IDS[WANTED:]) / (len(IDS) - WANTED)
    assert inside > 4 * outside


def test_a_seed_gives_the_same_truth_and_another_seed_another(vectors: NDArray[np.float32]) -> None:
    first = suppose_truth(IDS, vectors, KNOWN, ["owl"], 0.1, seed=1)
    assert first == suppose_truth(IDS, vectors, KNOWN, ["owl"], 0.1, seed=1)
    assert first != suppose_truth(IDS, vectors, KNOWN, ["owl"], 0.1, seed=2)


def test_without_targets_labels_are_drawn_by_their_chances(vectors: NDArray[np.float32]) -> None:
    truth = suppose_truth(IDS, vectors, KNOWN, [], 0.1, seed=1)
    assert set(truth.values()) == {("owl",), ("other",)}


@pytest.mark.parametrize("known", [{}, {IDS[0]: ("owl",)}, {IDS[0]: ("other",), IDS[1]: ("cat",)}])
def test_labels_that_tell_nothing_apart_are_refused(
    vectors: NDArray[np.float32], known: dict[str, tuple[str, ...]]
) -> None:
    with pytest.raises(InvalidInput) as caught:
        suppose_truth(IDS, vectors, known, ["owl"], 0.1, seed=1)
    assert caught.value.reason == "TOO_FEW_LABELS"
    assert "--truth" in caught.value.fix
