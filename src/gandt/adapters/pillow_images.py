# SPDX-License-Identifier: GPL-3.0-or-later
"""Image files as the catalog takes them: by the rules of `image_decode`, so that what is ingested can be embedded."""

from __future__ import annotations

import io

from gandt.adapters.image_decode import MAX_PIXELS, ImageDecoder
from gandt.ports.image_inspector import Inspected

THUMBNAIL_SIDE = 320
THUMBNAIL_QUALITY = 80
BROWSER_SIDE = 4096
BROWSER_QUALITY = 92


class PillowImages:
    """A `gandt.ports.image_inspector.ImageInspector` on Pillow.

    Args:
        max_pixels: largest width times height; a larger header is refused before anything is decoded.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self._decoder = ImageDecoder(min_side=THUMBNAIL_SIDE, max_pixels=max_pixels)

    def inspect(self, data: bytes) -> Inspected:
        """See the port."""
        info, picture = self._decoder.inspect(data)
        picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=THUMBNAIL_QUALITY, comment=b"")  # Pillow would copy the comment
        return Inspected(info.width, info.height, info.format, out.getvalue())

    def for_browsers(self, data: bytes) -> bytes:
        """A JPEG of any image that we take: RGB, upright, the long side at most 4,096 pixels, without metadata.

        Raises:
            InvalidInput: as `inspect`.
        """
        picture = self._decoder.decode(data)
        picture.thumbnail((BROWSER_SIDE, BROWSER_SIDE))
        out = io.BytesIO()
        picture.save(out, "JPEG", quality=BROWSER_QUALITY, comment=b"")
        return out.getvalue()
