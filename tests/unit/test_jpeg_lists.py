# SPDX-License-Identifier: GPL-3.0-or-later
"""JPEGs decoded in lists where the network computes; here on the CPU, where torchvision takes lists too."""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters import jpeg_lists
from gandt.adapters.engine_choice import Machine
from gandt.adapters.image_decode import ImageDecoder, fit
from gandt.adapters.jpeg_lists import ListDecodingModel, fit_on_device
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.model_spec import ModelSpec, probe_images
from gandt.adapters.network_model import NetworkModel
from gandt.adapters.networks import load_network
from gandt.domain.embedding import ModelInfo, Preprocessing
from gandt.domain.errors import InvalidInput

PREPROCESSING = Preprocessing(16, 16, resize_side=20)
CPU = torch.device("cpu")


class Means:
    """The colors of the four quarters as features."""

    name, dtype, sizes = "means", "float32", (1, 2, 4, 8)
    batching: Literal["any", "split", "pad"] = "any"

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        quarters = pixels.reshape(len(pixels), 2, 8, 2, 8, 3).mean((2, 4))
        return np.asarray(quarters.reshape(len(pixels), -1), dtype=np.float32)


@pytest.fixture
def model() -> ListDecodingModel:
    inner = NetworkModel(Means(), ModelInfo("means-1", "means", 0), PREPROCESSING, ImageDecoder())
    return ListDecodingModel(inner, ImageDecoder(), PREPROCESSING, CPU)


def photo(seed: int, kind: str = "JPEG", width: int = 90, height: int = 60, orientation: int = 1) -> bytes:
    picture = Image.fromarray(np.roll(probe_images(height, width)[seed % 4], seed, 0))
    exif = picture.getexif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    picture.save(data, kind, exif=exif)
    return data.getvalue()


def test_plain_jpegs_wait_for_the_device_and_everything_else_is_decoded_at_once(model: ListDecodingModel) -> None:
    assert model.prepare(photo(1)).ndim == 1
    gray, cmyk = io.BytesIO(), io.BytesIO()
    Image.new("L", (30, 30), 99).save(gray, "JPEG")
    Image.new("CMYK", (30, 30)).save(cmyk, "JPEG")
    for other in (photo(1, "PNG"), photo(1, orientation=6), gray.getvalue(), cmyk.getvalue()):
        assert model.prepare(other).shape == (16, 16, 3)
    for broken in (b"", photo(1)[:-400], b"text"):
        with pytest.raises(InvalidInput):
            model.prepare(broken)


def test_vectors_are_nearly_those_of_the_other_decoder(
    model: ListDecodingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [photo(n, ("JPEG", "PNG")[n % 3 == 0], 60 + 7 * n, 90 - 5 * n) for n in range(9)]
    plain = NetworkModel(Means(), ModelInfo("means-1", "means", 0), PREPROCESSING, ImageDecoder())
    expected = plain.embed([plain.prepare(data) for data in files])
    prepared = [model.prepare(data) for data in files]
    np.testing.assert_allclose(model.embed(prepared), expected, atol=0.01)
    monkeypatch.setattr(jpeg_lists, "_LIST_BYTES", 5_000)  # several lists
    np.testing.assert_allclose(model.embed(prepared), expected, atol=0.01)


def test_a_jpeg_that_breaks_in_the_middle_fails_alone(model: ListDecodingModel) -> None:
    broken = bytearray(photo(3))
    start = broken.index(b"\xff\xc0")
    broken[start + 9] = 7  # a number of components that no decoder takes; its header looked plain before
    prepared = [model.prepare(photo(1)), np.frombuffer(bytes(broken), np.uint8), model.prepare(photo(2))]
    vectors = model.embed(prepared)
    assert np.isnan(vectors[1]).all()
    np.testing.assert_array_equal(vectors[[0, 2]], model.embed([prepared[0], prepared[2]]))
    assert np.isnan(model.embed(prepared[1:2])).all()


@pytest.mark.parametrize(
    "preprocessing",
    [
        PREPROCESSING,
        Preprocessing(16, 24, interpolation="bicubic"),
        Preprocessing(20, 20, resize_side=20, bgr=True, rotate180=True),
    ],
)
@pytest.mark.parametrize("size", [(90, 60), (33, 70), (12, 200)])
def test_images_are_fitted_as_by_the_other_decoder(preprocessing: Preprocessing, size: tuple[int, int]) -> None:
    pixels = probe_images(*size)[0]
    expected = fit(Image.fromarray(pixels), preprocessing).astype(int)
    found = fit_on_device(torch.from_numpy(pixels).permute(2, 0, 1), preprocessing)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 2


def test_it_is_refused_where_the_network_runs_on_the_cpu() -> None:
    spec = ModelSpec("resnet18", "none.pth", engine="eager", jpegs="nvjpeg")
    with pytest.raises(InvalidInput) as caught:
        load_network(spec, MemoryObjects(), (2**20, 10**6), Machine())
    assert caught.value.reason == "JPEG_DECODER_NEEDS_GPU"
