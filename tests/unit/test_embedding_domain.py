# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints and preprocessing."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gandt.adapters.processors import processors
from gandt.domain.embedding import Ingredients, Preprocessing, fingerprint
from gandt.domain.errors import InvalidInput

BASE = Ingredients("mobilenet_v2", Preprocessing(), "ab" * 32, "pillow-1-512")


def test_a_fingerprint_is_stable_and_fit_for_names() -> None:
    assert fingerprint(BASE) == fingerprint(replace(BASE))
    # Written down on purpose: another value makes every stored collection unusable.
    assert fingerprint(Ingredients("hog", Preprocessing(64, 64))) == "hog-d37add1b2d4b"
    assert fingerprint(BASE) == "mobilenet_v2-45443c4783cc"
    assert re.fullmatch(r"[A-Za-z0-9_-]+", fingerprint(replace(BASE, architecture="a/b c.d")))


@pytest.mark.parametrize(
    "change",
    [
        {"architecture": "resnet18"},
        {"weights_sha256": "cd" * 32},
        {"decoder": "pillow-2-512"},
        {"dtype": "bfloat16"},
        {"projection": "orthogonal-1-128"},
        {"views": "flip"},
        {"preprocessing": Preprocessing(height=256)},
        {"preprocessing": Preprocessing(width=256)},
        {"preprocessing": Preprocessing(resize_side=256)},
        {"preprocessing": Preprocessing(interpolation="bicubic")},
        {"preprocessing": Preprocessing(scale=127.5)},
        {"preprocessing": Preprocessing(mean=(1.0, 1.0, 1.0))},
        {"preprocessing": Preprocessing(std=(0.5, 0.5, 0.5))},
        {"preprocessing": Preprocessing(bgr=True)},
        {"preprocessing": Preprocessing(rotate180=True)},
    ],
)
def test_each_ingredient_changes_the_fingerprint(change: dict[str, Any]) -> None:
    assert fingerprint(replace(BASE, **change)) != fingerprint(BASE)


@pytest.mark.parametrize(
    "wrong",
    [
        {"height": 0},
        {"width": 5000},
        {"resize_side": 100},
        {"interpolation": "magic"},
        {"scale": 0.0},
        {"scale": float("nan")},
        {"std": (1.0, 0.0, 1.0)},
        {"mean": (0.0, float("inf"), 0.0)},
    ],
)
def test_impossible_preprocessing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        Preprocessing(**wrong)
    assert caught.value.reason == "BAD_WEIGHTS_CONFIG"


def test_the_processors_of_a_container_are_counted(tmp_path: Path) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text("100000 100000\n")
    assert processors(limit) == 1
    limit.write_text("20000 100000\n")
    assert processors(limit) == 1
    limit.write_text("max 100000\n")
    assert processors(limit) == processors(tmp_path / "none") >= 1


def test_preprocessing_describes_itself() -> None:
    assert "rotated by 180 degrees" in Preprocessing(rotate180=True).describe()
    assert "short side to 256, center 224x224" in Preprocessing(resize_side=256).describe()
