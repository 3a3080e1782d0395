# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is called and where its bytes are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageRef:
    """One picture and one place of its bytes.

    Attributes:
        image_id: in a project the lower-case hex SHA-256 of the bytes; file verbs and gRPC
            clients may use ids of their own (1-512 bytes of UTF-8 without control characters).
        uri: `s3://bucket/key`, or "" when the bytes travel with the call.
    """

    image_id: str
    uri: str = ""


def image_id_of(data: bytes) -> str:
    """The identity of an image in a project: lower-case hex SHA-256 of its bytes."""
    return hashlib.sha256(data).hexdigest()
