# SPDX-License-Identifier: GPL-3.0-or-later
"""The EmbeddingModel port: the same rules for the fake, the histogram and a network of torchvision."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gandt.adapters.image_decode import ImageDecoder
from gandt.adapters.memory_model import MemoryModel
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.torch_hog import TorchHog
from gandt.adapters.torch_model import ModelSpec, load_torch_model
from gandt.domain.errors import InvalidInput
from gandt.ports.embedding_model import EmbeddingModel

ARCHITECTURE = "shufflenet_v2_x0_5"  # the smallest that torchvision has


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from safetensors.torch import save_file
    from torchvision.models import get_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_file(get_model(ARCHITECTURE, weights=None).state_dict(), path)
    return path


@pytest.fixture(scope="module", params=["memory", "hog", "torch"])
def model(request: pytest.FixtureRequest, network_file: Path) -> EmbeddingModel:
    if request.param == "memory":
        return MemoryModel()
    if request.param == "hog":
        return TorchHog(ImageDecoder(), torch_threads=1)
    return load_torch_model(
        ModelSpec(ARCHITECTURE, str(network_file), engine="eager", torch_threads=1), MemoryObjects(), (2**20, 10**6)
    )


def photo(seed: int, height: int = 50, width: int = 70) -> bytes:
    rng = np.random.default_rng(seed)
    data = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(data, "PNG")
    return data.getvalue()


def test_vectors_have_the_promised_size_and_unit_length(model: EmbeddingModel) -> None:
    vectors = model.embed([model.prepare(photo(seed)) for seed in range(3)])
    assert vectors.shape == (3, model.info.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("sizes", [[1] * 11, [2, 9], [11], [5, 6], [3, 1, 7]])
def test_what_shares_the_batch_changes_no_bit(model: EmbeddingModel, sizes: list[int]) -> None:
    prepared = [model.prepare(photo(seed)) for seed in range(11)]
    together = model.embed(prepared)
    start, parts = 0, []
    for size in sizes:
        parts.append(model.embed(prepared[start : start + size]))
        start += size
    np.testing.assert_array_equal(np.concatenate(parts), together)


def test_decoded_pixels_give_the_vector_of_the_file(model: EmbeddingModel) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(photo(1))))
    np.testing.assert_array_equal(model.prepare_pixels(pixels), model.prepare(photo(1)))


def test_a_blank_image_has_a_vector(model: EmbeddingModel) -> None:
    vector = model.embed([model.prepare_pixels(np.full((9, 9, 3), 128, np.uint8))])[0]
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5


def test_a_bad_image_is_an_input_error(model: EmbeddingModel) -> None:
    for data in (b"", b"text, not an image", photo(1)[:60]):
        with pytest.raises(InvalidInput):
            model.prepare(data)


def test_it_says_what_it_is(model: EmbeddingModel) -> None:
    info = model.info
    assert info.model_id.startswith(f"{info.name}-")
    assert info.preprocessing
    assert info.max_image_bytes > 0
    assert info.max_batch_images == 32


def test_texts_have_vectors_of_the_images_space_or_an_error_that_says_why_not(model: EmbeddingModel) -> None:
    if not model.info.embeds_texts:
        with pytest.raises(InvalidInput) as caught:
            model.prepare_text("a red dress")
        assert caught.value.reason == "TEXT_UNSUPPORTED"
        assert caught.value.fix
        return
    vectors = model.embed_texts([model.prepare_text(text) for text in ("a red dress", "green")])
    assert vectors.shape == (2, model.info.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    with pytest.raises(InvalidInput) as caught:
        model.prepare_text(" ")
    assert caught.value.reason == "BAD_TEXT"
