# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into an embedding and what comes out: images, texts, preprocessing, a model's description, fingerprint."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import GandtError, InvalidInput

MAX_BATCH_IMAGES = 32
"""Most images in one Embed call."""
MAX_TEXT = 4096
"""Most characters of a text; a model reads no more than some dozens of words of it."""
MAX_SIDE = 2048
"""Largest input side of a model, in pixels."""
_FINGERPRINT_DIGITS = 12


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image to embed, or a text; exactly one of `data`, `uri`, `pixels` and `text` is set.

    Attributes:
        image_id: the caller's id, returned with the result; "" means its position.
        data: encoded bytes (JPEG, PNG, WebP, GIF, BMP, TIFF).
        uri: `s3://bucket/key`.
        pixels: u8[H, W, 3], RGB, decoded already.
        text: what a model with a text tower puts into the space of its images.
    """

    image_id: str = ""
    data: bytes = b""
    uri: str = ""
    pixels: NDArray[np.uint8] | None = None
    text: str = ""

    @property
    def size_bytes(self) -> int:
        """Bytes that it holds in memory before decoding, of a text its characters (0 for what is still in a store)."""
        return self.pixels.nbytes if self.pixels is not None else len(self.data) + len(self.text)


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What became of one image: exactly one of `vector` and `error` is set.

    Attributes:
        image_id: the image's id, or its position when none was given.
        sequence: position in the call, or sequence in the stream, from 0.
        vector: f32[D], read-only, unit length.
        cached: whether the vector came from the cache.
    """

    image_id: str
    sequence: int
    vector: NDArray[np.float32] | None = None
    error: GandtError | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """From RGB pixels to the numbers that a model eats: `(pixel / scale - mean) / std`, after resizing.

    Attributes:
        height, width: the model's input in pixels.
        resize_side: the short side becomes this long before the center is cut out; 0 stretches the whole
            image to the input size instead.
        interpolation: `bilinear`, `bicubic` or `nearest`, always with antialiasing.
        scale: divides the pixel values 0 to 255; 255 gives the [0, 1] of torchvision.
        mean, std: a number a channel, in the model's channel order.
        bgr: whether the model wants blue first.
        rotate180: whether the image is turned by 180 degrees (weights that came from TensorFlow's padding).
    """

    height: int = 224
    width: int = 224
    resize_side: int = 0
    interpolation: str = "bilinear"
    scale: float = 255.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    bgr: bool = False
    rotate180: bool = False

    def __post_init__(self) -> None:
        for name, side in (("height", self.height), ("width", self.width), ("resize_side", self.resize_side)):
            if not (1 <= side <= MAX_SIDE or (name == "resize_side" and side == 0)):
                raise _bad(f"{name} is {side} pixels, allowed are 1 to {MAX_SIDE}", name)
        if 0 < self.resize_side < max(self.height, self.width):
            raise _bad(
                f"the short side is resized to {self.resize_side} pixels, less than the "
                f"{self.height}x{self.width} that are cut out of it",
                "resize_side",
            )
        if self.interpolation not in ("bilinear", "bicubic", "nearest"):
            raise _bad(f"interpolation {self.interpolation!r} is unknown", "interpolation")
        if not np.all(np.isfinite((self.scale, *self.mean, *self.std))) or self.scale == 0 or 0 in self.std:
            raise _bad("scale, mean and std must be finite, scale and std not zero", "std")

    def describe(self) -> str:
        """One line for people."""
        how = f"short side to {self.resize_side}, center" if self.resize_side else "stretched to"
        parts = [f"{how} {self.height}x{self.width} {self.interpolation}"]
        parts.append(f"(pixel / {self.scale:g} - {_numbers(self.mean)}) / {_numbers(self.std)}")
        parts.append("BGR" if self.bgr else "RGB")
        return ", ".join([*parts, "rotated by 180 degrees"] if self.rotate180 else parts)


@dataclass(frozen=True, slots=True)
class Ingredients:
    """Everything that changes a vector, and so names its space.

    Attributes:
        architecture: torchvision's name, `timm:NAME`, `open_clip:NAME`, or `hog`.
        weights_sha256: lower-case hex of the weights file; "" for a model without weights.
        decoder: id of the decoder and its rules.
        dtype: number format of the computation, `float32` or `bfloat16`; what computes it does not matter.
        projection: what turns the features into the vector after the model; "" for unit length alone.
        views: what else of an image is averaged into its vector, as `Views.describe`; "" for nothing.
    """

    architecture: str
    preprocessing: Preprocessing
    weights_sha256: str = ""
    decoder: str = ""
    dtype: str = "float32"
    projection: str = ""
    views: str = ""


@dataclass(frozen=True, slots=True)
class Views:
    """Variants of an image whose unit vectors are averaged: mirrored, and in other sizes.

    Attributes:
        flip: whether the mirrored image counts as well.
        scales: sizes relative to the model's input; it is (1.0,) for that size alone.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        sound = all(0.1 <= scale <= 4.0 for scale in self.scales)
        if not self.scales or not sound or len(set(self.scales)) < len(self.scales):
            raise InvalidInput(
                f"scales {list(self.scales)} cannot be used",
                field="scales",
                reason="BAD_SCALES",
                fix="give different numbers from 0.1 to 4, as in 1,0.7",
            )

    def describe(self) -> str:
        """As a fingerprint names it; "" when there is nothing but the image itself."""
        parts = [] if self.scales == (1.0,) else ["scales " + ",".join(f"{scale:g}" for scale in self.scales)]
        return ", ".join([*parts, "flip"] if self.flip else parts)


ONE_VIEW = Views()


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A loaded model as its users see it.

    Attributes:
        model_id: fingerprint; names the vector space.
        name: the architecture.
        dim: numbers in a vector.
        normalized: whether vectors have unit length.
        weights_source: where the weights came from, without credentials.
        preprocessing: in words.
        device: `cpu`, or the accelerator's name.
        engine: what runs the model (`eager`, `openvino bfloat16`, ...); no number format means float32.
        max_image_bytes, max_pixels, max_batch_images: the server's limits.
        embeds_texts: whether it has a text tower.
    """

    model_id: str
    name: str
    dim: int
    normalized: bool = True
    weights_sha256: str = ""
    weights_source: str = ""
    preprocessing: str = ""
    device: str = "cpu"
    engine: str = "eager"
    max_image_bytes: int = 0
    max_pixels: int = 0
    max_batch_images: int = MAX_BATCH_IMAGES
    embeds_texts: bool = False


@dataclass(frozen=True, slots=True)
class StreamOpen:
    """What a stream starts with.

    Attributes:
        model_id: the fingerprint that the caller expects; "" accepts any.
        dtype: number format in which the vectors travel; None leaves it open.
    """

    model_id: str = ""
    dtype: np.dtype[np.floating] | None = None


@dataclass(frozen=True, slots=True)
class StreamItems:
    """Images of a stream with consecutive sequences from `first_sequence`."""

    first_sequence: int
    images: Sequence[ImageInput]


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A stream's first answer: the model in use, and how many images may be under way."""

    info: ModelInfo
    window_images: int
    dtype: np.dtype[np.floating] | None = None


@dataclass(frozen=True, slots=True)
class StreamResults:
    """Some results in the order of completion; every sequence below `contiguous_ack` has its result."""

    results: Sequence[EmbedResult]
    contiguous_ack: int


def fingerprint(ingredients: Ingredients) -> str:
    """The model_id: the architecture and 12 hex digits over every ingredient; fit for file and collection names.

    Example:
        >>> fingerprint(Ingredients("hog", Preprocessing(64, 64)))[:4]
        'hog-'
    """
    table = asdict(ingredients)
    if not ingredients.views:
        del table["views"]  # what had no views before they existed keeps its name
    text = json.dumps(table, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]
    return f"{re.sub(r'[^A-Za-z0-9_]', '_', ingredients.architecture)}-{digest}"


def check_text(text: str) -> str:
    """The text without white space around it.

    Raises:
        InvalidInput: BAD_TEXT, it is empty, too long, or no Unicode (a byte of the command line that is not UTF-8).
    """
    stripped = text.strip()
    if not 1 <= len(stripped) <= MAX_TEXT:
        raise InvalidInput(
            f"a text has {len(stripped):,} characters, allowed are 1 to {MAX_TEXT:,}",
            field="text",
            reason="BAD_TEXT",
            fix="give a phrase, as in a red dress",
        )
    try:
        stripped.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"character {error.start + 1} of a text is no Unicode",
            field="text",
            reason="BAD_TEXT",
            fix="give it in UTF-8",
        ) from error
    return stripped


def texts_unsupported(why: str) -> InvalidInput:
    """The error for a text that the loaded model cannot embed."""
    return InvalidInput(
        f"the text cannot be embedded: {why}",
        field="text",
        reason="TEXT_UNSUPPORTED",
        fix="use a model open_clip:NAME/PRETRAINED with the weights of the whole model",
    )


def _bad(message: str, name: str) -> InvalidInput:
    return InvalidInput(f"preprocessing: {message}", field=name, reason="BAD_WEIGHTS_CONFIG")


def _numbers(values: tuple[float, ...]) -> str:
    return f"[{', '.join(f'{value:g}' for value in values)}]"
