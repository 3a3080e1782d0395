# SPDX-License-Identifier: GPL-3.0-or-later
"""True labels by image id, from a table that names images by path, URI or id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gandt.tables.labels import read_gold

if TYPE_CHECKING:
    from gandt.client.jobcontroller import JobControllerClient


def truth_by_id(client: JobControllerClient, path: str) -> dict[str, tuple[str, ...]]:
    """True labels of the catalog's images; names that fit no image were reported at the import."""
    named = read_gold(path)
    images: dict[str, set[str]] = {}
    for image in client.list_images():
        for name in (image.image_id, *image.uris, *(suffix for uri in image.uris for suffix in suffixes(uri))):
            images.setdefault(name, set()).add(image.image_id)
    # a name that fits several images was refused at the import
    return {ids.copy().pop(): labels for name, labels in named.items() if len(ids := images.get(name, set())) == 1}


def suffixes(uri: str) -> list[str]:
    """`s3://b/x/y.jpg` gives `x/y.jpg` and `y.jpg`.

    >>> suffixes("s3://b/x/y.jpg")
    ['x/y.jpg', 'y.jpg']
    """
    parts = uri.split("/")[3:]
    return ["/".join(parts[i:]) for i in range(len(parts))]
