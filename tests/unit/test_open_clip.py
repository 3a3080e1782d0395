# SPDX-License-Identifier: GPL-3.0-or-later
"""OpenCLIP on a tiny model of random numbers: both towers, one space; nothing is downloaded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from gandt.adapters.engine_choice import Machine
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.model_spec import ModelSpec
from gandt.adapters.networks import export_network, load_network
from gandt.cli.main import main
from gandt.domain.errors import InvalidInput
from gandt.tables.vectors import read_vectors

NAME = "open_clip:gandt-tiny"
LIMITS = (2**20, 10**6)
PLAIN = Machine(bf16=False)
IMAGE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
PHRASES = ["a red dress", "a blue shirt"]
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 1, "layers": 1},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import open_clip

    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "gandt-tiny.json").write_text(json.dumps(CONFIG))
    open_clip.add_model_config(folder / "gandt-tiny.json")
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Any:
    """The model, its weights in w.pt and those of its image tower in tower.pt."""
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        whole = open_clip.create_model("gandt-tiny").eval()
    torch.save(whole.state_dict(), folder / "w.pt")
    torch.save(whole.visual.state_dict(), folder / "tower.pt")
    return whole


@pytest.fixture
def spec(folder: Path, whole: Any) -> ModelSpec:
    return ModelSpec(NAME, str(folder / "w.pt"), engine="eager", torch_threads=1, texts=True)


def load(spec: ModelSpec, machine: Machine = PLAIN) -> Any:
    return load_network(spec, MemoryObjects(), LIMITS, machine)


def expected_texts(whole: Any) -> np.ndarray[Any, np.dtype[np.float32]]:
    import open_clip

    with torch.inference_mode():
        rows = whole.encode_text(open_clip.get_tokenizer("gandt-tiny")(PHRASES), normalize=True).numpy()
    return np.asarray(rows)


def test_an_image_tower_is_filled_from_the_whole_model_s_file(spec: ModelSpec, whole: Any) -> None:
    model = load(spec)
    prepared = model.prepare_pixels(IMAGE)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)
    pixels = (torch.from_numpy(prepared.copy()).permute(2, 0, 1).float() / 255 - mean) / std
    with torch.inference_mode():
        expected = whole.encode_image(pixels[None], normalize=True)[0].numpy()
    np.testing.assert_allclose(model.embed([prepared])[0], expected, atol=1e-5)
    with pytest.raises(InvalidInput) as caught:
        load(replace(spec, weights="DEFAULT"))
    assert caught.value.reason == "PRETRAINED_NOT_NAMED"


def test_a_phrase_lies_in_the_space_of_the_images(spec: ModelSpec, whole: Any) -> None:
    model = load(spec)
    assert model.info.embeds_texts
    rows = model.embed_texts([model.prepare_text(phrase) for phrase in PHRASES])
    np.testing.assert_allclose(rows, expected_texts(whole), atol=1e-5)
    images_alone = load(replace(spec, texts=False))
    assert images_alone.info.model_id == model.info.model_id
    assert not images_alone.info.embeds_texts


def test_phrases_are_projected_like_images(spec: ModelSpec, whole: Any) -> None:
    model = load(replace(spec, project=4))
    rows = model.embed_texts([model.prepare_text(phrase) for phrase in PHRASES])
    assert rows.shape == (2, 4)
    both = load(spec)
    full = np.concatenate([both.embed([both.prepare_pixels(IMAGE)]), expected_texts(whole)])
    short = np.concatenate([model.embed([model.prepare_pixels(IMAGE)]), rows])
    turned, *_ = np.linalg.lstsq(full, short, rcond=None)  # one matrix for both kinds, up to the length of rows
    assert np.all(np.sum((full @ turned) * short, axis=1) > 0.99)


def test_other_engines_have_the_text_tower_too(spec: ModelSpec, whole: Any, tmp_path: Path) -> None:
    kept = replace(spec, engine="openvino", cache_dir=tmp_path)
    for _ in range(2):  # converted, then read from the cache
        model = load(kept)
        rows = model.embed_texts([model.prepare_text(phrase) for phrase in PHRASES])
        np.testing.assert_allclose(rows, expected_texts(whole), atol=1e-5)


def refused(spec: ModelSpec, machine: Machine = PLAIN) -> InvalidInput:
    model = load(spec, machine)
    assert not model.info.embeds_texts
    with pytest.raises(InvalidInput) as caught:
        model.prepare_text("a red dress")
    assert caught.value.reason == "TEXT_UNSUPPORTED"
    assert "open_clip" in caught.value.fix
    assert model.embed([model.prepare_pixels(IMAGE)]).shape == (1, 16)  # images are embedded all the same
    return caught.value


def test_without_a_text_tower_the_error_says_why(spec: ModelSpec, folder: Path, whole: Any, tmp_path: Path) -> None:
    assert "image tower alone" in refused(replace(spec, weights=str(folder / "tower.pt"))).message
    state = {key: tensor for key, tensor in whole.state_dict().items() if key != "ln_final.weight"}
    torch.save(state, tmp_path / "half.pt")
    assert "ln_final.weight" in refused(replace(spec, weights=str(tmp_path / "half.pt"))).message
    export_network(spec, MemoryObjects(), tmp_path / "tiny.xml")
    exported = replace(spec, name="", weights=str(tmp_path / "tiny.xml"), engine="openvino")
    assert "exported" in refused(exported).message
    kept = replace(spec, engine="openvino", cache_dir=tmp_path)
    load(kept)
    assert "not installed" in refused(kept, replace(PLAIN, torch=False)).message


@pytest.mark.parametrize("text", ["", "   ", "word " * 1000, "caf\udce9"])
def test_empty_endless_and_broken_texts_are_refused(spec: ModelSpec, text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(spec).prepare_text(text)
    assert caught.value.reason == "BAD_TEXT"


def test_the_command_writes_phrases_beside_images(
    spec: ModelSpec, whole: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    phrases = [argument for phrase in PHRASES for argument in ("--text", phrase)]
    shape = ["--model", NAME, "--weights", spec.weights, "--engine", "eager", "-o", "phrases.parquet"]
    assert main(["embed", *phrases, *shape]) == 0
    table = read_vectors("phrases.parquet")
    assert table.ids == PHRASES
    assert table.model_id == load(spec).info.model_id
    np.testing.assert_allclose(table.matrix, expected_texts(whole), atol=1e-5)
    for arguments, reason in (
        ([*phrases, "photos", "-o", "phrases.parquet"], "USAGE"),
        ([*phrases], "UNKNOWN_FORMAT"),
        ([*phrases, "--model", "hog", "-o", "other.parquet"], "TEXT_UNSUPPORTED"),
    ):
        assert main(["embed", *arguments]) == 2
        assert reason in capsys.readouterr().err
    assert not Path("other.parquet").exists()
    assert isinstance(whole.visual, nn.Module)
