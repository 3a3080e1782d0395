# SPDX-License-Identifier: GPL-3.0-or-later
"""The one place where files become pixels (Pillow; no torch).

The header is read first, so a bomb or a format that we do not take is refused before a pixel is decoded. Whatever
the file holds comes out as RGB with 8 bits a channel, upright:

- EXIF orientation is applied; a broken EXIF block counts as none.
- CMYK, gray, palette and bilevel images are converted; 16-bit gray is scaled to 8 bits over its whole range.
- Transparent pixels are laid on white.
- Of an animation the first frame counts.
- JPEG photos with a short side of at least twice `min_side` are decoded at a half, a quarter or an eighth, which
  saves most of the work. The choice depends on the image alone, never on load: the same file always gives the same
  pixels.
- 32-bit and floating-point pixels are refused: nobody can know their range. So are JPEGs with 12 bits a channel.
- Color profiles are not applied: networks were trained on pixels as they are stored.
- Of a photo that is made smaller only the part that the model sees is computed, which saves nearly half of that work.
  It differs from resizing all and cutting by the rounding between Pillow's two passes alone.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import GandtError, InvalidInput

MAX_IMAGE_BYTES = 40 * 2**20
MAX_PIXELS = 100_000_000
MIN_SIDE = 512
_VERSION = 2  # raise it when a rule above changes: pixels and so vectors change
MAX_ASPECT = 4  # a strip is cut to this before resizing: its resized long side could fill the memory
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
# What Pillow and its plugins raise on broken files; anything else is a bug of ours.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    RuntimeError,  # libavif
    Image.DecompressionBombError,  # a frame larger than its file says
    UserWarning,  # under a filter that turns warnings into errors
)
_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"heif"}
_DEEP_JPEG = re.compile(r"cannot handle \d+-bit layers")
_OTHERS = ((b"%PDF", "PDF"), (b"8BPS", "Photoshop"), (b"<svg", "SVG"), (b"<?xml", "XML or SVG"))


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a file says of its image.

    Attributes:
        format: `JPEG`, `PNG`, `WEBP`, `GIF`, `BMP`, `TIFF` or `AVIF`.
        width, height: pixels in full size, upright.
    """

    format: str
    width: int
    height: int


class ImageDecoder:
    """Encoded bytes to upright RGB.

    Args:
        min_side: JPEGs are decoded at a fraction as long as the short side keeps this many pixels.
    """

    def __init__(
        self, min_side: int = MIN_SIDE, max_image_bytes: int = MAX_IMAGE_BYTES, max_pixels: int = MAX_PIXELS
    ) -> None:
        self.min_side = min_side
        self.max_image_bytes = max_image_bytes
        self.max_pixels = max_pixels
        # Pillow warns of odd EXIF blocks, once a file; the result or the error says enough.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

    @property
    def decoder_id(self) -> str:
        """Names the rules that made the pixels; part of a model's fingerprint."""
        return f"pillow-{_VERSION}-{self.min_side}"

    def decode(self, data: bytes) -> Image.Image:
        """The image in mode RGB, upright; large JPEGs smaller than stored. Thread-safe.

        Raises:
            InvalidInput: IMAGE_EMPTY, IMAGE_TOO_LARGE (bytes), IMAGE_TOO_MANY_PIXELS, IMAGE_FORMAT_UNSUPPORTED,
                NOT_AN_IMAGE, IMAGE_TRUNCATED or IMAGE_BROKEN.
        """
        return self.inspect(data)[1]

    def inspect(self, data: bytes) -> tuple[ImageInfo, Image.Image]:
        """What the file says, and the image as `decode` gives it. Raises as `decode`."""
        with _open(data, self.max_image_bytes, self.max_pixels) as image:
            width, height = image.size
            if image.format == "JPEG" and min(image.size) >= 2 * self.min_side:
                image.draft(None, (self.min_side, self.min_side))
            try:
                image.load()
            except _BROKEN as error:
                raise _unreadable(error, data) from error
            orientation = _orientation(image)
            if orientation in _ON_ITS_SIDE:
                width, height = height, width
            return ImageInfo(image.format or "", width, height), _upright(_rgb(image), orientation)

    def is_plain_jpeg(self, data: bytes) -> bool:
        """Whether it is an upright RGB JPEG with its end, by its header: what other decoders take as well.

        Raises:
            InvalidInput: as `decode`, of what a header tells.
        """
        if not data.startswith(b"\xff\xd8\xff") or _lacks_its_end(data):
            return False
        with _open(data, self.max_image_bytes, self.max_pixels) as image:
            return image.format == "JPEG" and image.mode == "RGB" and _orientation(image) == 1

    def from_pixels(self, pixels: NDArray[np.uint8]) -> Image.Image:
        """Pixels that a caller decoded, u8[H, W, 3], as an image.

        Raises:
            InvalidInput: another shape or dtype, or more pixels than are taken.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0:
            raise InvalidInput(
                f"the pixels are {pixels.dtype}{list(pixels.shape)}, they must be uint8[height, width, 3]",
                field="pixels",
                reason="BAD_PIXELS",
            )
        _check_pixels(pixels.shape[1], pixels.shape[0], self.max_pixels)
        return Image.fromarray(np.ascontiguousarray(pixels))


def fit(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """u8[height, width, 3]: the image resized and cut as the model wants it, turned and in its channel order."""
    size = (preprocessing.width, preprocessing.height)
    resample = _FILTERS[preprocessing.interpolation]
    if preprocessing.resize_side:
        image = _center(image, *(MAX_ASPECT * min(image.size),) * 2)
        short = min(image.size)
        # torchvision truncates the long side; so do we, to get its pixels.
        scaled = tuple(int(preprocessing.resize_side * side / short) for side in image.size)
        if preprocessing.resize_side < short and resample is not Image.Resampling.NEAREST:
            image = image.resize(size, resample, box=_source_box(image.size, scaled, size))
        else:
            image = _center(image.resize((scaled[0], scaled[1]), resample), *size)
    elif image.size != size:
        image = image.resize(size, resample)
    pixels = np.asarray(image, dtype=np.uint8)
    if preprocessing.rotate180:
        pixels = pixels[::-1, ::-1]
    if preprocessing.bgr:
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels)


def _open(data: bytes, max_image_bytes: int, max_pixels: int) -> ImageFile.ImageFile:
    if not data:
        raise InvalidInput("the image is empty (0 bytes)", field="image", reason="IMAGE_EMPTY")
    if len(data) > max_image_bytes:
        raise InvalidInput(
            f"the image has {len(data):,} bytes, at most {max_image_bytes:,} are taken",
            field="image",
            reason="IMAGE_TOO_LARGE",
            fix="store it smaller, or raise max_image_bytes",
        )
    opener = _opener(data)
    try:
        # The plugin is called directly: Image.open would try forty formats, and warn of sizes by its own limit.
        image = opener(io.BytesIO(data))
    except _BROKEN as error:
        raise _unreadable(error, data) from error
    _check_pixels(image.width, image.height, max_pixels)
    if min(image.size) < 1:
        raise InvalidInput("the image has no pixels", field="image", reason="IMAGE_BROKEN")
    return image


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise InvalidInput(
            f"the image has {width} x {height} pixels, at most {max_pixels:,} are decoded",
            field="image",
            reason="IMAGE_TOO_MANY_PIXELS",
            fix="store it smaller, or raise max_pixels",
        )


def _opener(data: bytes) -> Callable[[io.BytesIO], ImageFile.ImageFile]:
    head = data[:32]
    if head.startswith(b"\xff\xd8\xff"):
        return JpegImagePlugin.JpegImageFile
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return PngImagePlugin.PngImageFile
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return WebPImagePlugin.WebPImageFile
    if head.startswith((b"GIF87a", b"GIF89a")):
        return GifImagePlugin.GifImageFile
    if head.startswith(b"BM"):
        return BmpImagePlugin.BmpImageFile
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return TiffImagePlugin.TiffImageFile
    brands = _brands(data)
    if brands & _AVIF:
        if features.check("avif"):
            return AvifImagePlugin.AvifImageFile
        raise _unsupported("AVIF, which this build of Pillow cannot read")
    if brands & _HEIF:
        raise _unsupported("HEIC, which needs a patented decoder")
    for magic, name in _OTHERS:
        if head.startswith(magic):
            raise _unsupported(name)
    if len(head) < 16 and head.startswith((b"\x89PN", b"RIFF", b"GIF", b"II*", b"MM\0", b"\xff\xd8")):
        raise InvalidInput(f"the image ends after {len(data)} bytes", field="image", reason="IMAGE_TRUNCATED")
    raise InvalidInput(
        "the bytes are not an image",
        field="image",
        reason="NOT_AN_IMAGE",
        fix="give a JPEG, PNG, WebP, GIF, BMP or TIFF",
    )


def _brands(data: bytes) -> set[bytes]:
    """What an ISO media file says it is, its own brand and those it is compatible with; none for other files."""
    if data[4:8] != b"ftyp":
        return set()
    size = min(int.from_bytes(data[:4]), 128)
    return {data[8:12], *(data[at : at + 4] for at in range(16, size - 3, 4))}


def _unsupported(what: str) -> GandtError:
    return InvalidInput(
        f"the image is {what}", field="image", reason="IMAGE_FORMAT_UNSUPPORTED", fix="convert it to JPEG or PNG"
    )


def _unreadable(error: Exception, data: bytes) -> GandtError:
    text = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    if _DEEP_JPEG.match(text):
        raise _unsupported("a JPEG with more than 8 bits a channel") from error
    signs = ("truncated", "eof", "not enough", "unexpected end", "but only got")
    cut = isinstance(error, EOFError) or any(sign in text.lower() for sign in signs) or _lacks_its_end(data)
    return InvalidInput(
        f"the image {'ends early' if cut else 'cannot be read'} ({text})",
        field="image",
        reason="IMAGE_TRUNCATED" if cut else "IMAGE_BROKEN",
        fix="copy the file again",
    )


def _lacks_its_end(data: bytes) -> bool:
    """Whether a broken file is shorter than its own format says; most libraries do not tell."""
    tail = data[-1024:]
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in tail
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in tail
    if data.startswith(b"GIF8"):
        return not tail.rstrip(b"\0").endswith(b";")
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") > len(data) - 8
    return data.startswith(b"BM") and int.from_bytes(data[2:6], "little") > len(data)


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except _BROKEN:
        return 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image.copy()
    if mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.uint32)  # [H, W], 0 to 65535 in any byte order
        return Image.fromarray(((wide * 255 + 32_767) // 65_535).astype(np.uint8)).convert("RGB")
    if mode in ("I", "F"):
        raise _unsupported("one with 32-bit pixels, whose range is unknown")
    try:
        if mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
            layer = image.convert("RGBA")
            return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
        return image.convert("RGB")
    except _BROKEN as error:
        raise _unsupported(f"in the pixel format {mode}, which cannot be converted") from error


def _source_box(
    source: tuple[int, int], scaled: tuple[int, ...], size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Where the middle of the scaled image lies in the source: what is cut away need not be resized first.

    Example:
        >>> _source_box((640, 480), (320, 240), (220, 240))
        (100.0, 0.0, 540.0, 480.0)
    """
    left, top = (round((long - short) / 2) for long, short in zip(scaled, size, strict=True))
    x, y = (whole / part for whole, part in zip(source, scaled, strict=True))
    return left * x, top * y, (left + size[0]) * x, (top + size[1]) * y


def _center(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of the image, at most width x height."""
    if image.width <= width and image.height <= height:
        return image
    width, height = min(width, image.width), min(height, image.height)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
