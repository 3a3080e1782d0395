# SPDX-License-Identifier: GPL-3.0-or-later
"""An embedding model without torch: mean colors on a coarse grid, and texts that name a color.

The shipped fake, under the contract suite.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.adapters.image_decode import ImageDecoder, fit
from gandt.domain.embedding import Ingredients, ModelInfo, Preprocessing, check_text, fingerprint
from gandt.domain.vectors import normalized

GRID = 4
COLORS = {"black": 0x000000, "red": 0xFF0000, "green": 0x00FF00, "blue": 0x0000FF, "white": 0xFFFFFF}


class MemoryModel:
    """Color means of GRID x GRID fields, and a constant so that no vector is zero: 49 numbers.

    Args:
        decoder: what reads the files.
        name: changes the fingerprint, for tests with two models.
    """

    def __init__(self, decoder: ImageDecoder | None = None, name: str = "memory") -> None:
        self._decoder = decoder or ImageDecoder()
        self._preprocessing = Preprocessing(GRID, GRID)
        self.info = ModelInfo(
            model_id=fingerprint(Ingredients(name, self._preprocessing, decoder=self._decoder.decoder_id)),
            name=name,
            dim=3 * GRID**2 + 1,
            preprocessing=self._preprocessing.describe(),
            engine="numpy",
            max_image_bytes=self._decoder.max_image_bytes,
            max_pixels=self._decoder.max_pixels,
            embeds_texts=True,
        )

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare`."""
        return fit(self._decoder.decode(data), self._preprocessing)

    def prepare_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare_pixels`."""
        return fit(self._decoder.from_pixels(pixels), self._preprocessing)

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """See `EmbeddingModel.embed`."""
        flat = np.stack(prepared).reshape(len(prepared), -1).astype(np.float32) / 255  # [N, 48]
        return normalized(np.concatenate([flat, np.full((len(prepared), 1), 0.1, np.float32)], axis=1))

    def prepare_text(self, text: str) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare_text`: a plain image of the mean of the colors that it names, else gray."""
        named = [COLORS[word].to_bytes(3) for word in check_text(text).lower().split() if word in COLORS]
        color = np.array([list(rgb) for rgb in named] or [[128] * 3]).mean(0).astype(np.uint8)
        return np.broadcast_to(color, (GRID, GRID, 3))

    def embed_texts(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """See `EmbeddingModel.embed_texts`."""
        return self.embed(prepared)
