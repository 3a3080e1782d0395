# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens the object store that a service's settings name."""

from __future__ import annotations

from pathlib import Path

from gandt.adapters.local_files import LocalFiles
from gandt.ports.object_store import ObjectStore


def open_objects(place: str, default_folder: Path, endpoint_url: str = "") -> ObjectStore:
    """S3, or a folder.

    Args:
        place: "s3", or a folder; empty for the default one.
        default_folder: holds the buckets where no place is given.
        endpoint_url: of an S3 that is not Amazon's.
    """
    return open_s3(endpoint_url) if place == "s3" else LocalFiles(Path(place) if place else default_folder)


def open_s3(endpoint_url: str = "") -> ObjectStore:
    """S3; credentials and region come from boto3's usual places."""
    import boto3  # only where S3 is asked for: it costs a quarter of a second

    from gandt.adapters.s3 import S3Objects

    return S3Objects(boto3.client("s3", endpoint_url=endpoint_url or None))
