# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks by name for any engine: one fingerprint, kept conversions, exported models without torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model

from gandt.adapters import converted_models
from gandt.adapters.engine_choice import Machine
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.model_spec import ModelSpec
from gandt.adapters.networks import export_network, load_network
from gandt.cli.main import main
from gandt.domain.embedding import Views
from gandt.domain.errors import GandtError

NAME = "squeezenet1_1"
LIMITS = (2**20, 10**6)
PLAIN = Machine(bf16=False)
IMAGES = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8) for seed in range(3)]


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> ModelSpec:
    folder = tmp_path_factory.mktemp("network")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        save_file(get_model(NAME, weights=None, num_classes=7).state_dict(), folder / "tiny.safetensors")
    (folder / "tiny.safetensors.toml").write_text("classes = 7\nsize = 64\n")
    return ModelSpec(NAME, str(folder / "tiny.safetensors"), torch_threads=1, cache_dir=folder / "cache")


def refused(spec: ModelSpec, machine: Machine = PLAIN, objects: MemoryObjects | None = None) -> GandtError:
    with pytest.raises(GandtError) as caught:
        load_network(spec, objects or MemoryObjects(), LIMITS, machine)
    assert caught.value.fix
    return caught.value


def test_engines_of_one_number_format_share_a_fingerprint_and_their_vectors(spec: ModelSpec) -> None:
    models = [
        load_network(replace(spec, engine=engine), MemoryObjects(), LIMITS, PLAIN) for engine in ("eager", "openvino")
    ]
    assert [model.info.engine for model in models] == ["eager", "openvino"]
    assert len({model.info.model_id for model in models}) == 1
    first, second = (model.embed([model.prepare_pixels(image) for image in IMAGES]) for model in models)
    assert np.min(np.sum(first * second, axis=1)) >= 0.9999
    other = load_network(
        replace(spec, precision="bfloat16", engine="openvino"), MemoryObjects(), LIMITS, replace(PLAIN, bf16=True)
    )
    assert other.info.engine == "openvino bfloat16"
    assert other.info.model_id != models[0].info.model_id


def test_the_second_start_needs_no_torch(spec: ModelSpec) -> None:
    first = load_network(spec, MemoryObjects(), LIMITS, PLAIN)
    second = load_network(spec, MemoryObjects(), LIMITS, replace(PLAIN, torch=False))
    assert second.info == first.info
    prepared = [first.prepare_pixels(image) for image in IMAGES]
    np.testing.assert_array_equal(first.embed(prepared), second.embed(prepared))
    # Another description is another network, which only torch can convert.
    text = Path(f"{spec.weights}.toml").read_text().replace("64", "72")
    (other := Path(spec.weights).parent / "other.toml").write_text(text)
    changed = replace(spec, weights_config=str(other))
    assert refused(changed, replace(PLAIN, torch=False)).reason == "ENGINE_NOT_INSTALLED"


def test_a_broken_kept_conversion_is_made_again(spec: ModelSpec, tmp_path: Path) -> None:
    own = replace(spec, cache_dir=tmp_path)
    load_network(own, MemoryObjects(), LIMITS, PLAIN)
    (file,) = tmp_path.glob("*.bin")
    file.write_bytes(file.read_bytes()[:-1])
    load_network(own, MemoryObjects(), LIMITS, PLAIN)
    load_network(own, MemoryObjects(), LIMITS, replace(PLAIN, torch=False))


def test_kept_conversions_do_not_fill_the_disk(
    spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converted_models, "KEPT", 1)
    for views in (Views(), Views(scales=(1.0, 1.5)), Views()):
        load_network(replace(spec, cache_dir=tmp_path, views=views), MemoryObjects(), LIMITS, PLAIN)
    assert len(list(tmp_path.glob("*.xml"))) == len(list(tmp_path.glob("*.bin"))) == 2
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    assert load_network(replace(spec, cache_dir=blocked), MemoryObjects(), LIMITS, PLAIN).info.dim == 512


def test_an_exported_model_runs_where_torch_is_not_installed(spec: ModelSpec, tmp_path: Path) -> None:
    card = export_network(spec, MemoryObjects(), tmp_path / "tiny.xml")
    assert card.architecture == NAME
    model = load_network(spec, MemoryObjects(), LIMITS, PLAIN)
    program = f"""
import sys
import numpy as np
sys.modules["torch"] = None  # importing it fails
from gandt_embedding.bootstrap import load_model
from gandt_embedding.settings import Settings
from gandt.adapters.memory_objects import MemoryObjects
model = load_model(
    Settings(weights={str(tmp_path / "tiny.xml")!r}, torch_threads=1, precision="float32", flip=True), MemoryObjects()
)
vector = model.embed([model.prepare_pixels(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))])[0]
print(model.info.model_id, model.info.name, model.info.engine, *vector[:5])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    model = load_network(replace(spec, views=Views(flip=True), engine="eager"), MemoryObjects(), LIMITS, PLAIN)
    model_id, name, engine, *numbers = done.stdout.split()
    assert (name, engine) == (NAME, "openvino")
    ramp = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    np.testing.assert_allclose(
        [float(number) for number in numbers], model.embed([model.prepare_pixels(ramp)])[0][:5], atol=1e-5
    )
    assert model_id.split("-")[0] == NAME


def test_an_exported_model_keeps_the_fingerprint(spec: ModelSpec, tmp_path: Path) -> None:
    export_network(spec, MemoryObjects(), tmp_path / "tiny.xml")
    exported = ModelSpec("", str(tmp_path / "tiny.xml"), torch_threads=1)
    model = load_network(exported, MemoryObjects(), LIMITS, PLAIN)
    assert model.info.model_id == load_network(spec, MemoryObjects(), LIMITS, PLAIN).info.model_id
    assert refused(replace(exported, engine="eager")).reason == "EXPORT_NEEDS_OPENVINO"
    assert refused(replace(exported, name="resnet18")).fix == f"use --model {NAME}"
    assert refused(replace(exported, views=Views(scales=(1.0, 0.5)))).reason == "SCALE_UNSUPPORTED"
    assert refused(replace(exported, weights_sha256="0" * 64)).reason == "WEIGHTS_SHA256_MISMATCH"
    assert refused(replace(exported, weights="s3://models/tiny.xml")).reason == "WEIGHTS_SHA256_MISSING"
    (tmp_path / "tiny.bin").unlink()
    with pytest.raises(GandtError) as caught:
        load_network(exported, MemoryObjects(), LIMITS, PLAIN)
    assert caught.value.reason == "WEIGHTS_NOT_FOUND"
    with pytest.raises(GandtError) as caught:
        export_network(spec, MemoryObjects(), tmp_path / "tiny.onnx")
    assert caught.value.reason == "UNKNOWN_FORMAT"


def test_scales_and_projection_have_their_own_space(spec: ModelSpec) -> None:
    plain = load_network(replace(spec, engine="eager"), MemoryObjects(), LIMITS, PLAIN)
    ids = {plain.info.model_id}
    for views, project in ((Views(flip=True), 0), (Views(scales=(1.0, 0.75)), 0), (Views(), 32)):
        changed = replace(spec, engine="eager", views=views, project=project)
        model = load_network(changed, MemoryObjects(), LIMITS, PLAIN)
        assert model.info.dim == (project or plain.info.dim)
        ids.add(model.info.model_id)
    assert len(ids) == 4


def test_the_command_exports_what_it_was_told(
    spec: ModelSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["model", "export", "--model", NAME, "--weights", spec.weights, "-o", "out/tiny.xml"]) == 0
    assert f"{NAME} is in out/tiny.xml and tiny.bin" in capsys.readouterr().err
    model = load_network(ModelSpec("", "out/tiny.xml", torch_threads=1), MemoryObjects(), LIMITS, PLAIN)
    assert model.info.name == NAME
    for arguments, reason in (
        (["--model", NAME, "--weights", spec.weights], "USAGE"),
        (["-o", "hog.xml"], "MODEL_NOT_NAMED"),
        (["--model", NAME, "-o", "none.xml"], "NO_WEIGHTS"),
    ):
        assert main(["model", "export", *arguments]) == 2
        assert reason in capsys.readouterr().err
