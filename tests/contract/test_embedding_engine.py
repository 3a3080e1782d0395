# SPDX-License-Identifier: GPL-3.0-or-later
"""The EmbeddingEngine port: every engine gives the features of the plain network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from gandt.adapters import openvino_engine
from gandt.adapters.engine_choice import CPU_INFO, has_bf16
from gandt.adapters.model_spec import NetworkCard, least_cosine, probe_images
from gandt.adapters.torch_engines import CompiledEngine, CudaEngine, EagerEngine, bfloat16_cosine
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import GandtError
from gandt.ports.embedding_engine import EmbeddingEngine, OutOfDeviceMemory

SIDE = 32
PREPROCESSING = Preprocessing(SIDE, SIDE, scale=127.5, mean=(1.0, 1.1, 0.9), std=(1.0, 0.9, 1.1))
CARD = NetworkCard("tiny", "", "", PREPROCESSING)
IMAGES = np.concatenate([probe_images(SIDE, SIDE), probe_images(SIDE, SIDE)[:, ::-1]])  # u8[8, 32, 32, 3]
CPU = torch.device("cpu")


def network() -> nn.Module:
    """Two convolutions and pooling; the same numbers each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 24, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        )
    return layers.eval().requires_grad_(False)


def bare() -> NDArray[np.float32]:
    x = torch.from_numpy(IMAGES).permute(0, 3, 1, 2).float() / PREPROCESSING.scale
    x = (x - torch.tensor(PREPROCESSING.mean).view(1, 3, 1, 1)) / torch.tensor(PREPROCESSING.std).view(1, 3, 1, 1)
    with torch.inference_mode():
        return np.asarray(network()(x).flatten(1).numpy())


def by_openvino(dtype: str) -> EmbeddingEngine:
    graph = openvino_engine.convert(network(), CARD, (SIDE, SIDE))
    return openvino_engine.OpenVinoEngine({(SIDE, SIDE): graph}, dtype, 1)


FLOAT32: dict[str, Callable[[], EmbeddingEngine]] = {
    "eager": lambda: EagerEngine(network(), PREPROCESSING),
    "openvino": lambda: by_openvino("float32"),
    "cuda": lambda: CudaEngine(network(), PREPROCESSING, "float32", CPU),
}


@pytest.mark.parametrize("name", FLOAT32)
def test_an_engine_gives_the_features_of_the_plain_network(name: str) -> None:
    engine = FLOAT32[name]()
    assert (engine.name, engine.dtype) == (name, "float32")
    for size in (1, 2, 8):
        features = engine.run(IMAGES[:size])
        np.testing.assert_allclose(features, bare()[:size], rtol=1e-4, atol=1e-5)
        assert features.dtype == np.float32
        engine.run(IMAGES[::-1][:size].copy())
        np.testing.assert_allclose(features, bare()[:size], rtol=1e-4, atol=1e-5)  # its own memory


@pytest.mark.parametrize("engine", ["openvino", "cuda"])
def test_bfloat16_stays_near_float32(engine: str) -> None:
    if engine == "openvino" and not has_bf16(CPU_INFO):
        pytest.skip("this processor has no bfloat16")
    made = by_openvino("bfloat16") if engine == "openvino" else CudaEngine(network(), PREPROCESSING, "bfloat16", CPU)
    features = made.run(IMAGES)
    assert made.dtype == "bfloat16"
    assert 0.9999 <= least_cosine(features, bare()) < 1.0
    assert bfloat16_cosine(network(), PREPROCESSING) >= 0.9999


def test_the_compiled_network_gives_the_same() -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler")
    engine = CompiledEngine(network(), PREPROCESSING, "float32")
    np.testing.assert_allclose(engine.run(IMAGES[:1]), bare()[:1], rtol=1e-4, atol=1e-5)


def test_a_gpu_without_memory_is_told_and_the_next_batch_runs() -> None:
    class Greedy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return x.mean((2, 3))

    for engine in (CudaEngine(Greedy(), PREPROCESSING, "float32", CPU), EagerEngine(Greedy(), PREPROCESSING)):
        with pytest.raises(OutOfDeviceMemory):
            engine.run(IMAGES[:4])
        assert engine.run(IMAGES[:2]).shape == (2, 3)


def test_a_network_that_converts_into_something_else_is_refused() -> None:
    class Fickle(nn.Module):
        calls = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            Fickle.calls += 1
            return x.mean((2, 3)) if Fickle.calls == 1 else x.amax((2, 3)) * torch.tensor([1.0, -1.0, 1.0])

    with pytest.raises(GandtError) as caught:
        openvino_engine.convert(Fickle(), CARD, (SIDE, SIDE))
    assert caught.value.reason == "CONVERSION_FAILED"
    assert caught.value.fix == "use engine eager"


def test_the_library_s_telemetry_stays_off() -> None:
    openvino_engine.openvino()
    assert sys.modules["openvino_telemetry"] is None


def test_saved_graphs_read_back_and_foreign_ones_are_refused(tmp_path: Path) -> None:
    graph = openvino_engine.convert(network(), CARD, (SIDE, SIDE))
    path = tmp_path / "deep" / "tiny.xml"
    openvino_engine.save(graph, CARD, path)
    assert sorted(file.name for file in path.parent.iterdir()) == ["tiny.bin", "tiny.xml"]
    data, numbers = path.read_bytes(), path.with_suffix(".bin").read_bytes()
    read, card = openvino_engine.read(data, numbers, "tiny.xml")
    assert card == CARD
    assert openvino_engine.size_of(read) == (SIDE, SIDE)
    engine = openvino_engine.OpenVinoEngine({(SIDE, SIDE): read}, "float32", 1)
    np.testing.assert_allclose(engine.run(IMAGES[:2]), bare()[:2], rtol=1e-4, atol=1e-5)
    changed = bytes([numbers[0] ^ 1]) + numbers[1:]
    for graph_bytes, number_bytes, reason in (
        (data, changed, "WEIGHTS_SHA256_MISMATCH"),
        (b"<net/>", numbers, "EXPORT_UNREADABLE"),
        (data.replace(b"gandt", b"other"), numbers, "EXPORT_UNREADABLE"),
    ):
        with pytest.raises(GandtError) as caught:
            openvino_engine.read(graph_bytes, number_bytes, "tiny.xml")
        assert caught.value.reason == reason
        assert "tiny.xml" in str(caught.value)
