# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for looking at a file once: whether it is an image that we can use, its size, and a thumbnail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Inspected:
    """What was seen.

    Attributes:
        width, height: pixels after EXIF rotation.
        format: JPEG, PNG, ...
        thumbnail: JPEG bytes, long side at most 320 px, RGB, rotated, without metadata.
    """

    width: int
    height: int
    format: str
    thumbnail: bytes


class ImageInspector(Protocol):
    """Checks a file and makes its thumbnail."""

    def inspect(self, data: bytes) -> Inspected:
        """Look at an encoded image; the message of an error does not name the file, the caller does.

        Raises:
            InvalidInput: empty, truncated, not an image, an unsupported kind, or too many pixels; `reason` says which.
        """
        ...
