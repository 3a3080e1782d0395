# SPDX-License-Identifier: GPL-3.0-or-later
"""Which model to load and how, and what a loaded network says of itself (no torch)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.embedding import ONE_VIEW, Preprocessing, Views
from gandt.domain.vectors import normalized

ENGINES = ("eager", "openvino", "compile", "cuda")
PRECISIONS = ("float32", "bfloat16")
JPEG_DECODERS = {"pillow": "", "nvjpeg": "nvjpeg-1"}
"""What decodes plain JPEGs, and what a fingerprint says of it; raise the number when `jpeg_lists.py` changes."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to load, and how.

    Attributes:
        name: torchvision's name of the architecture, `timm:NAME` or `open_clip:NAME`.
        weights: a path, an `s3://` URI, a name of the library's own weights (`DEFAULT`), or an exported model (`.xml`).
        weights_config: the description's place; "" for the one beside the weights.
        weights_sha256: what they must hash to; "" for the description's.
        device: `auto`, `cpu` or `cuda`.
        engine: `auto` or one of ENGINES.
        torch_threads: threads of the CPU's kernels; 0 for the processors that this process may use.
        precision: `auto` or one of PRECISIONS.
        views: what is averaged into a vector.
        project: numbers that a vector is projected to; 0 for none.
        max_batch: most images that are given to it at once; no larger shape is prepared.
        cache_dir: folder where converted models are kept; None keeps none.
        texts: whether its text tower is loaded as well, if it has one.
        jpegs: what decodes plain JPEGs: `pillow`, or `nvjpeg` on a GPU.
    """

    name: str
    weights: str = ""
    weights_config: str = ""
    weights_sha256: str = ""
    device: str = "auto"
    engine: str = "auto"
    torch_threads: int = 0
    precision: str = "auto"
    views: Views = ONE_VIEW
    project: int = 0
    max_batch: int = 8
    cache_dir: Path | None = None
    texts: bool = False
    jpegs: str = "pillow"


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """What a network is, whatever runs it.

    Attributes:
        architecture: its name.
        weights_sha256, weights_source: of the weights that it was filled with.
        preprocessing: what its images go through.
        bfloat16_cosine: the least likeness of its vectors in bfloat16 and float32 on `probe_images`; 0 when unknown.
    """

    architecture: str
    weights_sha256: str
    weights_source: str
    preprocessing: Preprocessing
    bfloat16_cosine: float = 0.0

    def as_table(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> NetworkCard:
        """From what `as_table` gave.

        Raises:
            KeyError, TypeError, InvalidInput: it is something else.
        """
        values = dict(table["preprocessing"])
        values["mean"], values["std"] = tuple(values["mean"]), tuple(values["std"])
        return cls(
            str(table["architecture"]),
            str(table["weights_sha256"]),
            str(table["weights_source"]),
            Preprocessing(**values),
            float(table["bfloat16_cosine"]),
        )


def probe_images(height: int, width: int) -> NDArray[np.uint8]:
    """Four images with the spectrum of photographs, u8[4, height, width, 3]: what engines are compared on."""
    rng = np.random.RandomState(0)  # its stream is frozen
    y, x = np.fft.fftfreq(height)[:, None, None], np.fft.fftfreq(width)[None, :, None]
    damping = 1 / np.maximum(np.hypot(y, x), 1 / max(height, width))  # [H, W, 1], amplitude falls as 1 / frequency
    noise = np.fft.fft2(rng.standard_normal((4, height, width, 3)), axes=(1, 2))
    waves = np.fft.ifft2(noise * damping, axes=(1, 2)).real
    waves = waves / waves.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.clip(waves * 60 + 120, 0, 255), dtype=np.uint8)


def least_cosine(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The least cosine of two matrices' rows; -1 when their shapes differ or a number is not finite."""
    if first.shape != second.shape:
        return -1.0
    cosine = float(np.min(np.sum(normalized(first) * normalized(second), axis=1)))
    return cosine if np.isfinite(cosine) else -1.0
