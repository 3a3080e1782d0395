# SPDX-License-Identifier: GPL-3.0-or-later
"""A network as an embedder, whatever engine runs it: batches, views, projection, unit length (no torch)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters.engine_choice import Choice
from gandt.adapters.image_decode import MIN_SIDE, ImageDecoder, fit
from gandt.adapters.model_spec import JPEG_DECODERS, ModelSpec, NetworkCard
from gandt.domain.embedding import (
    ONE_VIEW,
    Ingredients,
    ModelInfo,
    Preprocessing,
    Views,
    check_text,
    fingerprint,
    texts_unsupported,
)
from gandt.domain.errors import BackendUnavailable, InvalidInput
from gandt.domain.projection import projection_id, random_projection
from gandt.domain.vectors import normalized
from gandt.ports.embedding_engine import EmbeddingEngine, OutOfDeviceMemory, TextTower

log = logging.getLogger(__name__)
Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]


class NetworkModel:
    """A loaded network; every shape that it will use has run once. `embed` belongs to one thread, `prepare` to any.

    Args:
        info: everything but `dim`, which is measured.
        project: numbers that a vector is projected to; 0 for none.
        max_batch: most images of one `embed`; engines are not prepared for more.
        texts: its text tower, or why it has none.
    Raises:
        InvalidInput: the network takes no other image size, or has too few numbers to project.
        BackendUnavailable: not even one image fits into the device's memory.
    """

    def __init__(
        self,
        engine: EmbeddingEngine,
        info: ModelInfo,
        preprocessing: Preprocessing,
        decoder: ImageDecoder,
        views: Views = ONE_VIEW,
        project: int = 0,
        max_batch: int = 8,
        texts: TextTower | str = "",
    ) -> None:
        self._engine = engine
        self._texts = texts
        self._preprocessing = preprocessing
        self._decoder = decoder
        self._views = views
        fitting = tuple(size for size in engine.sizes if size <= max_batch)
        larger = engine.sizes[len(fitting) : len(fitting) + 1]  # the first one is what the largest batch is padded to
        self._sizes = fitting + larger if engine.batching == "pad" and max_batch not in fitting else fitting
        self._sizes = self._sizes or engine.sizes[:1]
        features = self._warm_up(info.name)
        self._projection = random_projection(features, project) if project else None
        self.info = replace(info, dim=project or features, embeds_texts=not isinstance(texts, str))

    def prepare(self, data: bytes) -> Pixels:
        """See `EmbeddingModel.prepare`."""
        return fit(self._decoder.decode(data), self._preprocessing)

    def prepare_pixels(self, pixels: Pixels) -> Pixels:
        """See `EmbeddingModel.prepare_pixels`."""
        return fit(self._decoder.from_pixels(pixels), self._preprocessing)

    def embed(self, prepared: Sequence[Pixels]) -> Rows:
        """See `EmbeddingModel.embed`.

        Raises:
            BackendUnavailable: OUT_OF_DEVICE_MEMORY, not even one image fits.
        """
        pixels = np.stack(prepared)  # u8[N, H, W, 3]
        views = [self._features(view) for view in self._variants(pixels)]
        return self._projected(views[0] if len(views) == 1 else sum(map(normalized, views[1:]), normalized(views[0])))

    def prepare_text(self, text: str) -> NDArray[np.int64]:
        """See `EmbeddingModel.prepare_text`."""
        if isinstance(self._texts, str):
            raise texts_unsupported(self._texts or f"{self.info.name} has no text tower")
        return self._texts.tokens(check_text(text))

    def embed_texts(self, prepared: Sequence[NDArray[np.int64]]) -> Rows:
        """See `EmbeddingModel.embed_texts`."""
        if isinstance(self._texts, str):
            raise texts_unsupported(self._texts)
        return self._projected(self._texts.run(np.stack(prepared)))

    def _projected(self, features: Rows) -> Rows:
        vectors = normalized(features)
        if self._projection is None:
            return vectors
        # Row by row: a product of matrices rounds by the number of rows.
        return normalized(np.stack([row @ self._projection for row in vectors]))

    def _variants(self, pixels: Pixels) -> list[Pixels]:
        sized = [_scaled(pixels, scale) for scale in self._views.scales]
        mirrored = [np.ascontiguousarray(view[:, :, ::-1]) for view in sized] if self._views.flip else []
        return [*sized, *mirrored]

    def _features(self, pixels: Pixels) -> Rows:
        parts: list[Rows] = []
        start = 0
        while start < len(pixels):
            size = next_size(len(pixels) - start, self._sizes, self._engine.batching)
            chunk = pixels[start : start + size]
            try:
                parts.append(self._run(chunk, size))
            except OutOfDeviceMemory as error:
                self._forget(size, error)
            else:
                start += len(chunk)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, chunk: Pixels, size: int) -> Rows:
        short = size - len(chunk)
        padded = chunk if short == 0 else np.concatenate([chunk, np.repeat(chunk[-1:], short, axis=0)])
        rows = self._engine.run(padded)
        return rows[: len(chunk)]

    def _forget(self, size: int, error: OutOfDeviceMemory) -> None:
        """A batch did not fit, so neither will a larger one: at most half of it is tried from now on."""
        smaller = tuple(known for known in self._sizes if known <= size // 2)
        if not smaller:
            raise BackendUnavailable(
                "the device has too little free memory for one image",
                backend="device",
                reason="OUT_OF_DEVICE_MEMORY",
                fix="end what else uses the device, or choose a smaller model",
            ) from error
        log.warning("a batch of %d images did not fit into the device's memory, now at most %d", size, smaller[-1])
        self._sizes = smaller

    def _warm_up(self, name: str) -> int:
        """Runs every shape once, the largest first, so that what does not fit shows. Returns the number of features."""
        height, width = self._preprocessing.height, self._preprocessing.width
        dim = 0
        for scale in self._views.scales:
            blank = _scaled(np.zeros((1, height, width, 3), np.uint8), scale)
            sizes = self._sizes[:1] if self._engine.batching == "any" else self._sizes[::-1]
            try:
                for size in sizes:
                    if size in self._sizes:  # not forgotten since
                        dim = self._features(np.repeat(blank, size, axis=0)).shape[1]
            except (RuntimeError, AssertionError) as error:
                if scale == 1.0:
                    raise
                raise InvalidInput(
                    f"model {name} takes images of {height}x{width} pixels alone, not {scale:g} times that",
                    field="scales",
                    reason="SCALE_UNSUPPORTED",
                    fix="leave scales away, or use a convolutional network",
                ) from error
        return dim


def next_size(waiting: int, sizes: tuple[int, ...], batching: str) -> int:
    """The next batch to run, of `sizes` in ascending order.

    Example:
        >>> [next_size(5, (1, 2, 4, 8), how) for how in ("any", "split", "pad")]
        [5, 4, 8]
    """
    if batching == "any" or waiting >= sizes[-1]:
        return min(waiting, sizes[-1])
    if batching == "pad":
        return next(size for size in sizes if size >= waiting)
    return next((size for size in reversed(sizes) if size <= waiting), sizes[0])


def assemble(
    card: NetworkCard,
    engine: EmbeddingEngine,
    choice: Choice,
    spec: ModelSpec,
    limits: tuple[int, int],
    texts: TextTower | str,
) -> NetworkModel:
    """The model of a network and what runs it, warmed up.

    Args:
        limits: most bytes and most pixels of an image.
        texts: its text tower, or why it has none.
    """
    preprocessing = card.preprocessing
    decoder = decoder_of(preprocessing, limits)
    ingredients = Ingredients(
        card.architecture,
        preprocessing,
        card.weights_sha256,
        f"{JPEG_DECODERS[spec.jpegs]} {decoder.decoder_id}".strip(),
        dtype=choice.dtype,
        projection=projection_id(spec.project),
        views=spec.views.describe(),
    )
    words = [preprocessing.describe(), spec.views.describe(), f"projected to {spec.project}" if spec.project else ""]
    info = ModelInfo(
        model_id=fingerprint(ingredients),
        name=card.architecture,
        dim=0,
        weights_sha256=card.weights_sha256,
        weights_source=card.weights_source,
        preprocessing="; ".join(filter(None, words)),
        device=choice.device,
        engine=choice.describe(),
        max_image_bytes=limits[0],
        max_pixels=limits[1],
    )
    return NetworkModel(engine, info, preprocessing, decoder, spec.views, spec.project, spec.max_batch, texts)


def decoder_of(preprocessing: Preprocessing, limits: tuple[int, int]) -> ImageDecoder:
    """What reads the images of a model: of large JPEGs no less than the model takes."""
    return ImageDecoder(max(MIN_SIDE, preprocessing.resize_side, preprocessing.height, preprocessing.width), *limits)


def view_sizes(preprocessing: Preprocessing, views: Views) -> list[tuple[int, int]]:
    """Height and width of an image in each scale, in pixels."""
    return [_times(preprocessing.height, preprocessing.width, scale) for scale in views.scales]


def _times(height: int, width: int, scale: float) -> tuple[int, int]:
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(pixels: Pixels, scale: float) -> Pixels:
    if scale == 1.0:
        return pixels
    height, width = _times(pixels.shape[1], pixels.shape[2], scale)
    rows = [Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR) for image in pixels]
    return np.stack([np.asarray(row, dtype=np.uint8) for row in rows])
