# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for what turns pixels, and with some models texts, into numbers.

It has two steps, because they run in different places: `prepare` works on one image and runs in many decode threads,
`embed` works on a batch and runs in the one thread that owns the device. Texts go the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gandt.domain.embedding import ModelInfo


class EmbeddingModel(Protocol):
    """A loaded model. `tests/contract/test_embedding_model.py` holds what every adapter obeys."""

    @property
    def info(self) -> ModelInfo:
        """What it is: fingerprint, size, limits. Never changes."""
        ...

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """Decodes and resizes one encoded image. Thread-safe.

        Args:
            data: encoded bytes as they lie in the file.
        Returns:
            u8[H, W, 3] of the model's input size, RGB.
        Raises:
            InvalidInput: not an image that can be used, with the cause as `reason`.
        """
        ...

    def prepare_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The same for u8[H, W, 3] that the caller decoded."""
        ...

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """The vectors of some prepared images. Called from one thread at a time.

        Args:
            prepared: 1 or more results of `prepare`.
        Returns:
            f32[N, D] in the same order, rows of unit length. A row does not depend on the others
            (bit for bit on the CPU in float32).
        """
        ...

    def prepare_text(self, text: str) -> NDArray[Any]:
        """A text as the model reads it. Thread-safe.

        Returns:
            An array of the model's own kind; all its texts have one shape.
        Raises:
            InvalidInput: TEXT_UNSUPPORTED, unless `info.embeds_texts`; BAD_TEXT.
        """
        ...

    def embed_texts(self, prepared: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """The vectors of some prepared texts, in the space of the images. Called from the thread of `embed`.

        Args:
            prepared: 1 or more results of `prepare_text`.
        Returns:
            f32[N, D] in the same order, rows of unit length.
        """
        ...
