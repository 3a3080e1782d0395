# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in embedder that needs no weights: a histogram of oriented gradients, computed in torch.

It sees outlines, not things: good for digits, letters, symbols and products on plain ground, poor for photographs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from gandt.adapters.image_decode import ImageDecoder, fit
from gandt.domain.embedding import Ingredients, ModelInfo, Preprocessing, fingerprint, texts_unsupported

NAME = "hog"
SIDE = 64
CELL = 8
ORIENTATIONS = 9
BLOCK = 2
_DAMPING = 0.1  # keeps noise on flat ground from growing to full length; chosen on digits and clothing photos
_CLIP = 0.2
_FLAT = 0.05  # the last number, equal for all images, gives a blank image a direction
_VERSION = 1  # raise it when the computation changes
_LUMA = (0.299, 0.587, 0.114)


class TorchHog:
    """Histograms of gradient directions in cells of 8 pixels on 64 x 64 gray ones, normalized in blocks of 2 x 2 cells.

    Args:
        decoder: what reads the files.
        torch_threads: threads of torch in this process; 0 leaves them. The tensors are so small that more than one
            thread costs ten times as much as it saves.
    Source:
        Dalal and Triggs, Histograms of Oriented Gradients for Human Detection, CVPR 2005.
    """

    def __init__(self, decoder: ImageDecoder | None = None, torch_threads: int = 0) -> None:
        if torch_threads:
            torch.set_num_threads(torch_threads)
        self._decoder = decoder or ImageDecoder()
        self._preprocessing = Preprocessing(SIDE, SIDE, interpolation="bicubic")
        cells = SIDE // CELL
        self._dim = (cells - BLOCK + 1) ** 2 * BLOCK**2 * ORIENTATIONS + 1
        kind = f"gray, {ORIENTATIONS} orientations, {CELL} px cells, {BLOCK}x{BLOCK} blocks, v{_VERSION}"
        self.info = ModelInfo(
            model_id=fingerprint(
                Ingredients(NAME, self._preprocessing, decoder=self._decoder.decoder_id, projection=kind)
            ),
            name=NAME,
            dim=self._dim,
            weights_source="built in: no weights, sees outlines only",
            preprocessing=f"stretched to {SIDE}x{SIDE} bicubic, {kind}",
            max_image_bytes=self._decoder.max_image_bytes,
            max_pixels=self._decoder.max_pixels,
        )
        ramp = 1 - (torch.arange(2 * CELL) + 0.5 - CELL).abs() / CELL
        # Each pixel votes for the nearest four cells by its distance.
        self._votes = (ramp[:, None] * ramp[None, :] / CELL**2).expand(ORIENTATIONS, 1, -1, -1).contiguous()
        self._luma = torch.tensor(_LUMA)

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare`."""
        return fit(self._decoder.decode(data), self._preprocessing)

    def prepare_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare_pixels`."""
        return fit(self._decoder.from_pixels(pixels), self._preprocessing)

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """See `EmbeddingModel.embed`."""
        with torch.inference_mode():
            # One by one: it is cheap, and no kernel can depend on what else is in the batch.
            rows = [self._histogram(pixels) for pixels in torch.from_numpy(np.stack(prepared))]
            return np.asarray(torch.stack(rows).numpy(), dtype=np.float32)

    def prepare_text(self, text: str) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare_text`: it takes none."""
        del text
        raise texts_unsupported("hog sees outlines and reads nothing")

    def embed_texts(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """See `EmbeddingModel.embed_texts`: there are none."""
        del prepared
        raise texts_unsupported("hog sees outlines and reads nothing")

    def _histogram(self, pixels: torch.Tensor) -> torch.Tensor:
        gray = (pixels.float() * self._luma).sum(-1) / 255  # [S, S]
        padded = F.pad(gray[None, None], (1, 1, 1, 1), mode="replicate")[0, 0]
        dx = padded[1:-1, 2:] - padded[1:-1, :-2]
        dy = padded[2:, 1:-1] - padded[:-2, 1:-1]
        strength = torch.hypot(dx, dy)
        # Direction without sign, in units of one orientation; each pixel votes for its two nearest.
        place = torch.remainder(torch.atan2(dy, dx), math.pi) / math.pi * ORIENTATIONS  # [S, S]
        lower = place.floor()
        share = place - lower
        bins = torch.arange(ORIENTATIONS).view(-1, 1, 1)
        hits = (lower.remainder(ORIENTATIONS) == bins) * (1 - share)
        hits = hits + ((lower + 1).remainder(ORIENTATIONS) == bins) * share
        cells = F.conv2d(
            F.pad((hits * strength)[None], (CELL // 2,) * 4), self._votes, stride=CELL, groups=ORIENTATIONS
        )[0]  # [O, C, C]
        blocks = cells.unfold(1, BLOCK, 1).unfold(2, BLOCK, 1).permute(1, 2, 0, 3, 4).flatten(2)  # [B, B, O * 4]
        blocks = _damped(_damped(blocks).clamp(max=_CLIP))
        vector = torch.cat([blocks.flatten(), torch.tensor([_FLAT])])
        return vector / float(vector.norm())


def _damped(blocks: torch.Tensor) -> torch.Tensor:
    return blocks / torch.sqrt((blocks * blocks).sum(-1, keepdim=True) + _DAMPING**2)
