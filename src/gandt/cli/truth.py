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
    known: dict[str, tuple[str, ...]] = {}
    for image in client.list_images():
        names = [image.image_id, *image.uris, *(suffix for uri in image.uris for suffix in suffixes(uri))]
        found = next((named[name] for name in names if name in named), None)
        if found is not None:
            known[image.image_id] = found
    return known


def suffixes(uri: str) -> list[str]:
    """`s3://b/x/y.jpg` gives `x/y.jpg` and `y.jpg`.

    >>> suffixes("s3://b/x/y.jpg")
    ['x/y.jpg', 'y.jpg']
    """
    parts = uri.split("/")[3:]
    return ["/".join(parts[i:]) for i in range(len(parts))]
