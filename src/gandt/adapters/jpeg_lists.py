# SPDX-License-Identifier: GPL-3.0-or-later
"""JPEGs decoded on the device, a whole batch in one call: nvJPEG through torchvision.

Decoding 640x480 JPEGs keeps a processor busy for 1 to 2 ms each, so a GPU that embeds thousands a second needs it done
elsewhere. A list costs nvJPEG a quarter of what its images cost one by one (pytorch/vision#8496). Only what its header
says is plain goes this way: RGB of 8 bits, upright, with its end. Everything else goes through Pillow, by the file
alone, so that one file always has the same vector. The pixels are not Pillow's: the fingerprint says who decoded.

It has not run on a GPU yet; the tests run it on a CPU, where torchvision takes lists as well. torchvision 0.29 calls
these decoders superseded by TorchCodec's, which nothing else here needs; when they go, this file changes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as images

from gandt.adapters.image_decode import MAX_ASPECT, ImageDecoder
from gandt.adapters.network_model import NetworkModel
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import InvalidInput

log = logging.getLogger(__name__)
_LIST_BYTES = 16 * 2**20  # of files in one call; decoded they take some twenty times as much on the device


class ListDecodingModel:
    """A network's model whose plain JPEGs are decoded where it computes. See `EmbeddingModel`.

    Args:
        model: whose fingerprint names this decoder.
        decoder: reads headers, and what is not plain.
        device: where JPEGs are decoded.
    """

    def __init__(
        self, model: NetworkModel, decoder: ImageDecoder, preprocessing: Preprocessing, device: torch.device
    ) -> None:
        warnings.filterwarnings("ignore", category=DeprecationWarning, message="The image decoding and encoding")
        self._model, self._decoder, self._preprocessing, self._device = model, decoder, preprocessing, device
        self.info = model.info
        self.prepare_pixels, self.prepare_text = model.prepare_pixels, model.prepare_text
        self.embed_texts = model.embed_texts

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """A plain JPEG as u8[bytes], anything else as u8[H, W, 3]; raises as `EmbeddingModel.prepare`."""
        if self._decoder.is_plain_jpeg(data):
            return np.frombuffer(data, np.uint8)
        return self._model.prepare(data)

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """See `EmbeddingModel.embed`. What turns out to be broken gets a row of NaN, which fails alone."""
        pixels: dict[int, NDArray[np.uint8]] = {n: each for n, each in enumerate(prepared) if each.ndim == 3}
        files = [n for n, each in enumerate(prepared) if each.ndim == 1]
        for numbers in self._lists(files, prepared):
            pixels |= self._decoded({n: prepared[n] for n in numbers})
        good = sorted(pixels)
        if not good:
            return np.full((len(prepared), self.info.dim), np.nan, np.float32)
        rows = self._model.embed([pixels[n] for n in good])
        if len(good) == len(prepared):
            return rows
        vectors = np.full((len(prepared), rows.shape[1]), np.nan, np.float32)
        vectors[good] = rows
        return vectors

    def _lists(self, files: Sequence[int], prepared: Sequence[NDArray[np.uint8]]) -> Iterator[list[int]]:
        """The files in groups that the device's memory holds when they are decoded."""
        group, size = list[int](), 0
        for n in files:
            if group and size + prepared[n].nbytes > _LIST_BYTES:
                yield group
                group, size = [], 0
            group.append(n)
            size += prepared[n].nbytes
        if group:
            yield group

    def _decoded(self, files: dict[int, NDArray[np.uint8]]) -> dict[int, NDArray[np.uint8]]:
        """The pixels of those that can be read: a list is decoded whole or not at all, so a bad one is looked for."""
        try:
            found: Any = decode_jpeg(
                [torch.from_numpy(data.copy()) for data in files.values()], ImageReadMode.RGB, device=self._device
            )
        except RuntimeError as error:
            if len(files) > 1:
                return {n: each for n in files for each in self._decoded({n: files[n]}).values()}
            return self._by_pillow(files, error)
        return {n: fit_on_device(image, self._preprocessing) for n, image in zip(files, found, strict=True)}

    def _by_pillow(self, files: dict[int, NDArray[np.uint8]], error: RuntimeError) -> dict[int, NDArray[np.uint8]]:
        """What the device cannot read and Pillow can. The same file always ends here, so its vector is always this."""
        log.debug("a JPEG could not be decoded on the device: %s", error)
        try:
            return {n: self._model.prepare(data.tobytes()) for n, data in files.items()}
        except InvalidInput:
            return {}


def fit_on_device(image: torch.Tensor, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """u8[height, width, 3] of u8[3, H, W]: what `image_decode.fit` does, by torch's resizing."""
    mode = InterpolationMode(preprocessing.interpolation)
    size = [preprocessing.height, preprocessing.width]
    if preprocessing.resize_side:
        short = min(image.shape[1:])
        image = _center(image, MAX_ASPECT * short, MAX_ASPECT * short)
        scaled = [int(preprocessing.resize_side * side / short) for side in image.shape[1:]]
        image = _center(images.resize(image, scaled, mode, antialias=True), *size)
    else:
        image = images.resize(image, size, mode, antialias=True)
    if preprocessing.rotate180:
        image = image.flip(1, 2)
    if preprocessing.bgr:
        image = image.flip(0)
    return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())


def _center(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    height, width = min(height, image.shape[1]), min(width, image.shape[2])
    top, left = round((image.shape[1] - height) / 2), round((image.shape[2] - width) / 2)
    return image[:, top : top + height, left : left + width]
