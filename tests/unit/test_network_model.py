# SPDX-License-Identifier: GPL-3.0-or-later
"""What the model does around any engine: batches, memory, views, projection."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gandt.adapters.image_decode import ImageDecoder
from gandt.adapters.network_model import NetworkModel, next_size
from gandt.domain.embedding import ModelInfo, Preprocessing, Views
from gandt.domain.errors import BackendUnavailable, InvalidInput
from gandt.domain.projection import random_projection
from gandt.domain.vectors import normalized
from gandt.ports.embedding_engine import OutOfDeviceMemory

SIDE = 4
IMAGES = [np.random.default_rng(seed).integers(1, 256, (SIDE, SIDE, 3), dtype=np.uint8) for seed in range(21)]


class FlatEngine:
    """Pixels of the left half as features; keeps the batches that it was given."""

    name = "flat"
    dtype = "float32"

    def __init__(self, batching: Literal["any", "split", "pad"] = "any", sizes: tuple[int, ...] = (1, 2, 4, 8)) -> None:
        self.batching: Literal["any", "split", "pad"] = batching
        self.sizes = sizes
        self.fits = 1_000
        self.seen: list[int] = []

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen.append(len(pixels))
        if len(pixels) > self.fits:
            raise OutOfDeviceMemory("too many")
        return pixels[:, :2, :2].reshape(len(pixels), -1).astype(np.float32)


def model(engine: FlatEngine, **more: Any) -> NetworkModel:
    made = NetworkModel(
        engine, ModelInfo("flat-1", "flat", 0), Preprocessing(SIDE, SIDE), ImageDecoder(), max_batch=8, **more
    )
    engine.warmed, engine.seen = engine.seen, []  # type: ignore[attr-defined]
    return made


def expected(images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return normalized(np.stack([image[:2, :2].ravel() for image in images]))


@pytest.mark.parametrize(
    ("batching", "batches"), [("any", [8, 8, 5]), ("split", [8, 8, 4, 1]), ("pad", [8, 8, 8])], ids=str
)
def test_batches_have_the_sizes_that_the_engine_is_made_for(
    batching: Literal["any", "split", "pad"], batches: list[int]
) -> None:
    engine = FlatEngine(batching)
    np.testing.assert_array_equal(model(engine).embed(IMAGES), expected(IMAGES))
    assert engine.seen == batches


def test_every_size_that_will_be_used_has_run_before_the_model_is_ready() -> None:
    engine = FlatEngine("pad", (1, 2, 4, 8, 16, 32))
    model(engine)
    assert engine.warmed == [8, 4, 2, 1]  # type: ignore[attr-defined]
    engine = FlatEngine("pad", (1, 6, 12))
    model(engine)
    assert engine.warmed == [12, 6, 1]  # type: ignore[attr-defined]  # eight images are padded to twelve


@given(st.integers(1, 200), st.sampled_from(["any", "split", "pad"]), st.sets(st.integers(1, 64), min_size=1))
def test_any_number_of_images_is_run_in_finitely_many_batches(waiting: int, batching: str, sizes: set[int]) -> None:
    ascending = tuple(sorted({1, *sizes}))
    size = next_size(waiting, ascending, batching)
    assert 1 <= size <= ascending[-1]
    assert batching == "any" or size in ascending
    assert batching != "split" or size <= waiting


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost() -> None:
    engine = FlatEngine("pad")
    embedder = model(engine)
    engine.fits = 3
    np.testing.assert_array_equal(embedder.embed(IMAGES[:8]), expected(IMAGES[:8]))
    assert engine.seen == [8, 4, 2, 2, 2, 2]
    engine.seen.clear()
    embedder.embed(IMAGES[:8])
    assert engine.seen == [2, 2, 2, 2]  # what did not fit is not tried again


def test_a_device_without_room_for_one_image_says_so() -> None:
    engine = FlatEngine("pad")
    embedder = model(engine)
    engine.fits = 0
    with pytest.raises(BackendUnavailable) as caught:
        embedder.embed(IMAGES[:2])
    assert caught.value.reason == "OUT_OF_DEVICE_MEMORY"


def test_the_mirrored_image_counts_as_much() -> None:
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in IMAGES[:3]]
    vectors = model(FlatEngine(), views=Views(flip=True)).embed(IMAGES[:3])
    np.testing.assert_allclose(vectors, normalized(expected(IMAGES[:3]) + expected(mirrored)), atol=1e-6)
    np.testing.assert_allclose(model(FlatEngine(), views=Views(flip=True)).embed(mirrored), vectors, atol=1e-6)


def test_scales_are_averaged_and_each_size_is_warmed_up() -> None:
    engine = FlatEngine()
    embedder = model(engine, views=Views(scales=(1.0, 2.0)))
    assert len(engine.warmed) == 2  # type: ignore[attr-defined]
    vectors = embedder.embed(IMAGES[:3])
    assert not np.allclose(vectors, expected(IMAGES[:3]))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("scales", [(), (0.0,), (9.0,), (1.0, 1.0), (float("nan"),)])
def test_senseless_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Views(scales=scales)
    assert caught.value.reason == "BAD_SCALES"


def test_a_projected_vector_is_short_and_does_not_depend_on_the_batch() -> None:
    embedder = model(FlatEngine(), project=5)
    assert embedder.info.dim == 5
    together = embedder.embed(IMAGES)
    np.testing.assert_array_equal(np.concatenate([embedder.embed([image]) for image in IMAGES]), together)
    with pytest.raises(InvalidInput) as caught:
        model(FlatEngine(), project=12)
    assert caught.value.reason == "BAD_PROJECTION"


def test_a_projection_keeps_cosines_within_what_it_promises() -> None:
    rng = np.random.default_rng(0)
    rows = normalized(rng.standard_normal((60, 1024)) + 1.5 * rng.standard_normal(1024))  # cosines about 0.7
    exact = rows @ rows.T
    errors = {}
    for kept in (64, 256):
        short = normalized(rows @ random_projection(1024, kept))
        errors[kept] = np.abs(short @ short.T - exact)
        assert errors[kept].mean() < 1 / np.sqrt(kept)
        assert errors[kept].max() < 4 / np.sqrt(kept)
    assert errors[256].mean() < errors[64].mean()


def test_the_projection_is_the_same_everywhere() -> None:
    matrix = random_projection(6, 2)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(2), atol=1e-6)
    # Written down on purpose: another matrix makes stored vectors unusable.
    np.testing.assert_allclose(matrix[0], [-0.0570406, -0.7454830], atol=1e-6)
