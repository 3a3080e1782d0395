# SPDX-License-Identifier: GPL-3.0-or-later
"""What people call an image: its path below the folder that was read in, else its URI."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gandt.domain.images import split_uri

_MOUNT = re.compile(r".+-[0-9a-f]{8}")  # a folder of this machine, read in place


def shown_path(image_id: str, uris: Sequence[str]) -> str:
    """The first path of an image for tables that people read.

    >>> shown_path("5e98", ["s3://photos-5e98b6f2/a/b.jpg"])
    'a/b.jpg'
    >>> shown_path("5e98", ["s3://shop/a/b.jpg"]), shown_path("5e98", [])
    ('s3://shop/a/b.jpg', '5e98')
    """
    if not uris:
        return image_id
    bucket, key = split_uri(uris[0])
    return key if _MOUNT.fullmatch(bucket) else uris[0]
