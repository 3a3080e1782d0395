# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for what runs a network: torch, a compiler of it, OpenVINO, a GPU.

An engine knows pixels and features and nothing else: decoding, views, projection and unit length are the model's.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray


class OutOfDeviceMemory(Exception):
    """A batch did not fit; the caller tries again with a smaller one. It never leaves the model adapter."""


class EmbeddingEngine(Protocol):
    """A loaded network with its normalization. `run` belongs to one thread.

    `tests/contract/test_embedding_engine.py` holds what every adapter obeys.
    """

    @property
    def name(self) -> str:
        """What the settings call it."""
        ...

    @property
    def dtype(self) -> str:
        """`float32` or `bfloat16`: the number format of the computation. Part of the fingerprint."""
        ...

    @property
    def sizes(self) -> tuple[int, ...]:
        """Batches that it is made for, ascending; it is never given more images than the last."""
        ...

    @property
    def batching(self) -> Literal["any", "split", "pad"]:
        """What to do with a batch that is none of `sizes`: `any` takes it as it is; `split` wants smaller sizes,
        `pad` the next larger one. Sizes of the last two are prepared when they first run, so they are warmed up."""
        ...

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The features of some images.

        Args:
            pixels: u8[N, H, W, 3], N one of `sizes` (or below the last of them, for `any`), H and W of any
                size that the network takes.
        Returns:
            f32[N, D], not normalized; a row does not depend on the others.
        Raises:
            OutOfDeviceMemory: the batch is too large for the device.
        """
        ...


class TextTower(Protocol):
    """The part of a model that puts texts into the space of its images."""

    def tokens(self, text: str) -> NDArray[np.int64]:
        """i64[L]: the text as the tower reads it, cut to its length. Thread-safe."""
        ...

    def run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """f32[N, D] of i64[N, L], not normalized. It belongs to the thread of the engine."""
        ...
