# SPDX-License-Identifier: GPL-3.0-or-later
"""Weights: found, hashed, described, loaded strictly; every mistake has one clear error."""

from __future__ import annotations

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load, save
from torch import nn

from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.model_spec import ModelSpec
from gandt.adapters.torch_model import load_torch_model
from gandt.adapters.torchvision_zoo import check_name, own_preprocessing, remove_head
from gandt.adapters.weights import parse_description, read_weights
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import BackendUnavailable, CorruptData, GandtError, InvalidInput, NotFound
from gandt.ports.embedding_model import EmbeddingModel

NAME = "shufflenet_v2_x0_5"
LIMITS = (2**20, 10**6)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    network = torchvision.models.get_model(NAME, weights=None, num_classes=7)
    return {key: tensor.clone() for key, tensor in network.state_dict().items()}


@pytest.fixture
def folder(tmp_path: Path, state: dict[str, torch.Tensor]) -> Path:
    (tmp_path / "tiny.safetensors").write_bytes(save(state))
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 3}, tmp_path / "tiny.pth")
    (tmp_path / "seven.toml").write_text("classes = 7\nsize = 64\n")
    return tmp_path


def loaded(
    weights: Path | str, config: Path | str = "", objects: MemoryObjects | None = None, **more: Any
) -> EmbeddingModel:
    spec = ModelSpec(more.pop("name", NAME), str(weights), str(config), engine="eager", torch_threads=1, **more)
    return load_torch_model(spec, objects or MemoryObjects(), LIMITS)


def refused(kind: type[GandtError], **arguments: Any) -> GandtError:
    with pytest.raises(kind) as caught:
        loaded(**arguments)
    assert caught.value.fix
    return caught.value


def test_safetensors_and_pickled_state_dicts_give_the_same_vectors(folder: Path) -> None:
    models = [loaded(folder / name, folder / "seven.toml") for name in ("tiny.safetensors", "tiny.pth")]
    first, second = (model.embed([model.prepare_pixels(IMAGE)]) for model in models)
    np.testing.assert_array_equal(first, second)
    assert models[0].info.dim == 1024
    assert models[0].info.model_id != models[1].info.model_id  # other bytes, other hash


def test_the_vector_is_the_pooled_feature_of_the_bare_network(folder: Path, state: dict[str, torch.Tensor]) -> None:
    model = loaded(folder / "tiny.safetensors", folder / "seven.toml")
    bare = torchvision.models.get_model(NAME, weights=None, num_classes=7).eval()
    bare.load_state_dict(state)
    bare.fc = nn.Identity()
    x = torch.from_numpy(IMAGE.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        expected = nn.functional.normalize(bare(x))[0].numpy()
    np.testing.assert_allclose(model.embed([model.prepare_pixels(IMAGE)])[0], expected, atol=1e-6)


def test_a_description_beside_the_file_is_found(folder: Path) -> None:
    (folder / "tiny.safetensors.toml").write_text((folder / "seven.toml").read_text())
    assert "64x64" in loaded(folder / "tiny.safetensors").info.preprocessing


def test_the_number_of_classes_is_checked_and_the_fix_names_the_file(folder: Path) -> None:
    error = refused(InvalidInput, weights=folder / "tiny.safetensors")
    assert error.reason == "WEIGHTS_CLASSES"
    assert "tiny.safetensors were trained for 7 classes, not 1000" in str(error)
    assert "tiny.safetensors.toml" in error.fix


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    (folder / "tiny.safetensors.toml").write_text("classes = 7\n")
    error = refused(InvalidInput, weights=folder / "tiny.safetensors", name="squeezenet1_1")
    assert error.reason == "WEIGHTS_MISMATCH"
    assert "such as" in error.message
    (folder / "tiny.safetensors.toml").write_text(f'classes = 7\narchitecture = "{NAME}"\n')
    error = refused(InvalidInput, weights=folder / "tiny.safetensors", name="squeezenet1_1")
    assert error.fix == f"use --model {NAME}"


def test_no_weight_may_be_missing(folder: Path, state: dict[str, torch.Tensor]) -> None:
    (folder / "less.safetensors").write_bytes(save({k: v for k, v in state.items() if k != "conv1.0.weight"}))
    error = refused(InvalidInput, weights=folder / "less.safetensors", config=folder / "seven.toml")
    assert error.reason == "WEIGHTS_MISMATCH"
    assert "conv1.0.weight" in error.message


def test_without_weights_there_is_no_model(folder: Path) -> None:
    error = refused(InvalidInput, weights="")
    assert error.reason == "NO_WEIGHTS"
    assert "--model hog" in error.fix


def test_a_wrong_hash_is_refused_and_a_right_one_taken(folder: Path) -> None:
    file = folder / "tiny.safetensors"
    error = refused(CorruptData, weights=file, config=folder / "seven.toml", weights_sha256="0" * 64)
    assert error.reason == "WEIGHTS_SHA256_MISMATCH"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    model = loaded(file, folder / "seven.toml", weights_sha256=digest.upper())
    assert model.info.weights_sha256 == digest


def test_objects_need_a_hash(folder: Path) -> None:
    objects = MemoryObjects()
    data = (folder / "tiny.safetensors").read_bytes()
    objects.put("s3://models/tiny.safetensors", data)
    config = folder / "seven.toml"
    error = refused(InvalidInput, weights="s3://models/tiny.safetensors", config=config, objects=objects)
    assert error.reason == "WEIGHTS_SHA256_MISSING"
    text = f'{config.read_text()}sha256 = "{hashlib.sha256(data).hexdigest()}"\n'
    objects.put("s3://models/tiny.safetensors.toml", text.encode())
    model = loaded("s3://models/tiny.safetensors", objects=objects)
    assert model.info.weights_source == "s3://models/tiny.safetensors"
    objects.put("s3://models/tiny.safetensors", data[:-1] + b"x")
    assert refused(CorruptData, weights="s3://models/tiny.safetensors", objects=objects)
    with pytest.raises(NotFound):
        loaded("s3://models/none.safetensors", objects=objects, weights_sha256="0" * 64)


def test_files_that_hold_no_weights_are_refused(folder: Path) -> None:
    class Opens:
        def __reduce__(self) -> tuple[Any, ...]:
            return (open, (str(folder / "pwned"), "w"))

    with (folder / "code.pth").open("wb") as file:
        pickle.dump(Opens(), file, protocol=2)
    (folder / "cut.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes()[:1000])
    (folder / "text.pth").write_text("not weights")
    listed = io.BytesIO()
    torch.save([1, 2], listed)
    (folder / "list.pt").write_bytes(listed.getvalue())
    for name in ("code.pth", "cut.safetensors", "text.pth", "list.pt"):
        assert refused(InvalidInput, weights=folder / name, config=folder / "seven.toml").reason == "WEIGHTS_UNREADABLE"
    assert not (folder / "pwned").exists()
    assert refused(InvalidInput, weights=folder / "tiny.onnx").reason == "WEIGHTS_FORMAT"
    with pytest.raises(NotFound):
        loaded(folder / "none.safetensors")


def test_loading_draws_no_random_numbers(folder: Path) -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    loaded(folder / "tiny.safetensors", folder / "seven.toml")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("classes = ", "no TOML"),
        ("size = 224", "number of classes"),
        ("classes = 7\nmeen = 0.5", "did you mean mean?"),
        ("classes = 7\nmean = [1, 2]", "one number or three"),
        ("classes = 7\nstd = 0", "not zero"),
        ('classes = "7"', "of the wrong kind"),
        ("classes = true", "of the wrong kind"),
        ("classes = 7\nsize = [1, 2, 3]", "size = 224 or"),
        ('classes = 7\nresize = "squeeze"', "stretch, crop"),
        ('classes = 7\nchannel_order = "grb"', "rgb, bgr"),
        ("classes = 7\nsize = 224\nresize_side = 100", "resized to 100"),
        ('classes = 7\ninterpolation = "magic"', "magic"),
    ],
)
def test_a_wrong_description_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_description(text, "x.toml")
    assert caught.value.reason == "BAD_WEIGHTS_CONFIG"
    assert "x.toml" in str(caught.value)
    assert says in str(caught.value)


def test_a_description_of_everything() -> None:
    described = parse_description(
        'architecture = "resnet50"\nclasses = 12\nsize = [64, 96]\nresize = "crop"\nresize_side = 128\n'
        'interpolation = "bicubic"\nscale = 127.5\nmean = 1\nstd = [1, 1, 2]\nchannel_order = "bgr"\n'
        f'rotate180 = true\nsha256 = "{"AB" * 32}"\nsource = "here"\nlicense = "CC0"\n',
        "x.toml",
    )
    assert described.preprocessing == Preprocessing(
        64, 96, 128, "bicubic", 127.5, (1.0, 1.0, 1.0), (1.0, 1.0, 2.0), bgr=True, rotate180=True
    )
    assert (described.architecture, described.classes, described.sha256) == ("resnet50", 12, "ab" * 32)


def test_downloaded_weights_must_hash_to_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    url = torchvision.models.get_model_weights(NAME)["DEFAULT"].url
    cached = tmp_path / "hub" / "checkpoints" / url.rsplit("/", 1)[1]
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"not what the name says")
    assert refused(CorruptData, weights="DEFAULT").reason == "WEIGHTS_SHA256_MISMATCH"


def test_without_a_network_the_download_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("no_proxy", "")
    error = refused(BackendUnavailable, weights="DEFAULT")
    assert error.reason == "WEIGHTS_DOWNLOAD_FAILED"


def test_an_unknown_model_names_the_nearest() -> None:
    with pytest.raises(InvalidInput, match="mobilenet_v2"):
        check_name("mobilenetv2")
    with pytest.raises(InvalidInput):
        check_name("fcn_resnet50")  # segmentation


# One of each family; all others of torchvision share their code.
FAMILIES = {
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 576,
    "regnet_y_400mf": 440,
    "resnet18": 512,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "swin_v2_t": 768,
    "vgg11": 4096,
    "vit_b_32": 768,
}


@pytest.mark.parametrize(("name", "dim"), FAMILIES.items())
def test_the_head_of_every_family_comes_off(name: str, dim: int) -> None:
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    with torch.device("meta" if name != "regnet_y_400mf" else "cpu"):  # shapes alone, no numbers
        network = torchvision.models.get_model(name, weights=None, **options).eval()
    remove_head(network.to("meta"))
    side = own_preprocessing(name)[0].height
    with torch.inference_mode():
        assert network(torch.empty(2, 3, side, side, device="meta")).shape == (2, dim)


def test_a_saved_state_dict_reads_back() -> None:
    data = save({"a": torch.ones(2)})
    assert load(data)["a"].tolist() == [1, 1]
    with pytest.raises(InvalidInput):
        read_weights("weights.bin.gz", MemoryObjects())
