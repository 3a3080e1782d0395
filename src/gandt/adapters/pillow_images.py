# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files as the catalog takes them: checked by their header, decoded once for the thumbnail."""

from __future__ import annotations

import io
import warnings

from PIL import Image, ImageOps, UnidentifiedImageError

from gandt.domain.errors import InvalidInput
from gandt.ports.image_inspector import Inspected

THUMBNAIL_SIDE = 320
THUMBNAIL_QUALITY = 80
MAX_PIXELS = 100_000_000  # Ground Truth's limit for one image
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1", b"heif")


class PillowImages:
    """A `gandt.ports.image_inspector.ImageInspector` on Pillow.

    Args:
        max_pixels: largest width times height; a larger header is refused before anything is decoded.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self._max_pixels = max_pixels

    def inspect(self, data: bytes) -> Inspected:
        """See the port."""
        if not data:
            raise InvalidInput("the file is empty", field="image", reason="IMAGE_EMPTY")
        if data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS:
            raise InvalidInput(
                "HEIC images are not supported",
                field="image",
                reason="IMAGE_HEIC",
                fix="convert it to JPEG, as in `heif-convert photo.heic photo.jpg`",
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's own bomb warning: the limit below is ours
                return self._inspect(data)
        except UnidentifiedImageError as error:
            raise InvalidInput(
                "the file is not an image of a supported kind (JPEG, PNG, WebP, GIF, BMP, TIFF)",
                field="image",
                reason="NOT_AN_IMAGE",
            ) from error
        except Image.DecompressionBombError as error:
            raise InvalidInput(f"the image is too large: {error}", field="image", reason="IMAGE_TOO_LARGE") from error
        except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, MemoryError, OverflowError) as error:
            raise InvalidInput(
                f"the image is damaged or cut off: {error}", field="image", reason="IMAGE_DAMAGED"
            ) from error

    def _inspect(self, data: bytes) -> Inspected:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > self._max_pixels:
                raise InvalidInput(
                    f"the image is {width} x {height} pixels, at most {self._max_pixels:,} pixels are allowed",
                    field="image",
                    reason="IMAGE_TOO_LARGE",
                )
            kind = "JPEG" if image.format == "MPO" else (image.format or "")
            rotated = image.getexif().get(0x0112) in (5, 6, 7, 8)
            small = _thumbnail(image)
        out = io.BytesIO()
        small.save(out, "JPEG", quality=THUMBNAIL_QUALITY)
        return Inspected(*((height, width) if rotated else (width, height)), kind, out.getvalue())


def _thumbnail(image: Image.Image) -> Image.Image:
    """The first frame as RGB, rotated, with the long side at most THUMBNAIL_SIDE; decodes every pixel."""
    if image.format in ("JPEG", "MPO"):
        image.draft("RGB", (THUMBNAIL_SIDE * 2, THUMBNAIL_SIDE * 2))  # decode only what the thumbnail needs
    image.load()
    picture = ImageOps.exif_transpose(image)
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):
        picture = _eight_bits(picture)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        paper = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(paper, layer).convert("RGB")
    return picture.convert("RGB")


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A gray picture of 16 or 32 bits with its own range spread over 8."""
    import numpy as np

    values = np.asarray(picture, dtype=np.float64)  # [H, W]
    low, high = (0.0, 65535.0) if picture.mode.startswith("I") and values.max() > 255 else (0.0, 255.0)
    if picture.mode == "F":
        low, high = float(values.min()), float(values.max())
    scaled = (values - low) / max(high - low, 1e-9) * 255
    return Image.fromarray(scaled.clip(0, 255).astype(np.uint8), "L")
