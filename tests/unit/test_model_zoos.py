# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of torchvision, timm and OpenCLIP: built, filled from a file, headless; nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import VisionTransformer, get_model

from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.model_spec import ModelSpec
from gandt.adapters.timm_zoo import TimmZoo
from gandt.adapters.torch_model import load_torch_model
from gandt.adapters.torchvision_zoo import remove_head
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, WrongState

LIMITS = (2**20, 10**6)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def vector(name: str, weights: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    spec = ModelSpec(name, str(weights), engine="eager", torch_threads=1)
    model = load_torch_model(spec, MemoryObjects(), LIMITS)
    assert model.info.name == name
    found: np.ndarray[Any, np.dtype[np.float32]] = model.embed([model.prepare_pixels(IMAGE)])[0]
    return found


def refused(kind: type[GandtError], name: str, weights: str = "none.pth") -> GandtError:
    with pytest.raises(kind) as caught:
        load_torch_model(ModelSpec(name, weights, engine="eager", torch_threads=1), MemoryObjects(), LIMITS)
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    ("name", "side", "dim"),
    [
        ("vit_b_32", 32, 768),
        ("mobilenet_v3_small", 32, 576),
        ("regnet_y_400mf", 32, 440),
        ("shufflenet_v2_x0_5", 32, 1024),
    ],
)
def test_torchvision_networks_with_random_numbers_load_and_embed(
    name: str, side: int, dim: int, tmp_path: Path
) -> None:
    options = {"image_size": side} if name.startswith("vit") else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = get_model(name, weights=None, num_classes=3, **options)
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors.toml").write_text(f"classes = 3\nsize = {side}\n")
    found = vector(name, tmp_path / "w.safetensors")
    assert found.shape == (dim,)
    assert abs(float(np.linalg.norm(found)) - 1) < 1e-5


def test_a_transformer_gives_its_class_token() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = VisionTransformer(32, 16, num_layers=1, num_heads=2, hidden_dim=16, mlp_dim=16, num_classes=4).eval()
    tokens: list[torch.Tensor] = []
    network.encoder.register_forward_hook(lambda _module, _args, output: tokens.append(output))
    remove_head(network)
    with torch.inference_mode():
        features = network(torch.ones(2, 3, 32, 32))
    torch.testing.assert_close(features, tokens[0][:, 0])


@pytest.mark.parametrize(("name", "dim"), [("test_vit", 64), ("test_resnet", 96)])
def test_a_timm_network_gives_its_pooled_features(name: str, dim: int, tmp_path: Path) -> None:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(name, num_classes=5).eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    (tmp_path / "w.pth.toml").write_text("classes = 5\nsize = 160\n")
    found = vector(f"timm:{name}", tmp_path / "w.pth")
    assert found.shape == (dim,)
    network.reset_classifier(0)  # type: ignore[operator]
    model = load_torch_model(
        ModelSpec(f"timm:{name}", str(tmp_path / "w.pth"), engine="eager", torch_threads=1), MemoryObjects(), LIMITS
    )
    pixels = torch.from_numpy(model.prepare_pixels(IMAGE).copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = nn.functional.normalize(network(pixels))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_timm_says_how_its_weights_were_trained() -> None:
    preprocessing, classes = TimmZoo().own("timm:test_resnet.r160_in1k")
    assert (preprocessing.height, preprocessing.resize_side, classes) == (160, 168, 1000)
    assert preprocessing.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("timm:resnet51", "timm:resnet50"),
        ("open_clip:ViT-B-33", "open_clip:ViT-B-32"),
        ("open_clip:ViT-B-32/opeai", "open_clip:ViT-B-32/openai"),
    ],
)
def test_unknown_names_have_their_nearest(name: str, near: str) -> None:
    error = refused(InvalidInput, name)
    assert error.reason == "UNKNOWN_MODEL"
    assert near in error.fix


@pytest.mark.parametrize(
    ("module", "name", "extra"), [("timm", "timm:x", "timm"), ("open_clip", "open_clip:x", "open-clip")]
)
def test_a_missing_library_names_its_extra(module: str, name: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    error = refused(WrongState, name)
    assert error.reason == "MODEL_LIBRARY_MISSING"
    assert f"gandt[{extra}]" in error.fix


def test_without_a_network_a_library_s_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "/nonexistent")
    error = refused(BackendUnavailable, "timm:test_vit.r160_in1k", "DEFAULT")
    assert error.reason == "WEIGHTS_DOWNLOAD_FAILED"
