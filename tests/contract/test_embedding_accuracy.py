# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedders see what they should: like images have like vectors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters.image_decode import ImageDecoder
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.torch_hog import TorchHog
from gandt.adapters.torch_model import ModelSpec, load_torch_model

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "how-to" / "embedding-weights.md"


def share_of_like_neighbors(vectors: NDArray[np.float32], labels: NDArray[Any]) -> float:
    likeness = vectors @ vectors.T  # [N, N]
    np.fill_diagonal(likeness, -1)
    return float((labels[likeness.argmax(1)] == labels).mean())


def test_the_real_weights_and_the_guide_s_description_see_what_is_in_a_photo(shared_dir: Path, tmp_path: Path) -> None:
    weights = shared_dir / "weights" / "mobilenet_v2_coral_ptq_fp16.safetensors"
    table = shared_dir / "data" / "clothing" / "labels.csv"
    if not (weights.exists() and table.exists()):
        pytest.skip("weights or photos are not here")
    config = tmp_path / "described.toml"
    config.write_text(GUIDE.read_text().split("```toml\n")[1].split("```")[0])
    spec = ModelSpec("mobilenet_v2", str(weights), str(config), engine="eager", torch_threads=1)
    model = load_torch_model(spec, MemoryObjects(), (2**25, 10**8))
    rows = [line.split(",") for line in table.read_text().split()[1:]]
    chosen = [row for label in ("dress", "hat", "pants", "shoes") for row in rows if row[1] == label][::3]
    vectors = model.embed([model.prepare((table.parent / name).read_bytes()) for name, _ in chosen])
    labels = np.array([label for _, label in chosen])
    assert share_of_like_neighbors(vectors, labels) > 0.85


def test_hog_knows_handwritten_digits() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    hog = TorchHog(ImageDecoder(), torch_threads=1)
    prepared = []
    for picture in digits.images[:500]:
        data = io.BytesIO()
        Image.fromarray((picture / 16 * 255).round().astype(np.uint8)).save(data, "PNG")  # 8 x 8 pixels
        prepared.append(hog.prepare(data.getvalue()))
    vectors = hog.embed(prepared)
    assert share_of_like_neighbors(vectors, digits.target[:500]) > 0.97
    np.testing.assert_array_equal(vectors[:20], TorchHog(ImageDecoder()).embed(prepared[:20]))
