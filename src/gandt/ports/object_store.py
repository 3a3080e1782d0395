# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for bytes by URI: photos, thumbnails, manifests, raw answers and datasets.

Every adapter obeys the same rules, held by `tests/contract/test_object_store.py`: a URI is `s3://bucket/key`, a put
replaces the whole object or nothing, a listing is recursive and ordered by the key's UTF-8 bytes, and deleting what
is not there is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Protocol

from gandt.domain.errors import GandtError


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says of one object without reading it.

    Attributes:
        uri: `s3://bucket/key`.
        size: bytes.
        etag: opaque; another text whenever the bytes are another version.
        modified_at: aware, UTC.
    """

    uri: str
    size: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class SkippedObject:
    """Something in a listed place that cannot be an object: a dangling link, a folder that may not be read.

    Attributes:
        uri: where it is; bytes that are not UTF-8 are shown as `\\xff`.
        error: why, and what to do.
    """

    uri: str
    error: GandtError


class ObjectStore(Protocol):
    """Bytes by `s3://bucket/key`."""

    def get(self, uri: str) -> bytes:
        """The bytes of one object.

        Raises:
            NotFound: no such object (`kind="object"`).
            InvalidInput: not an S3 URI, or one without a key.
            PermissionDenied, BackendUnavailable: the store refuses, or does not answer.
        """
        ...

    def open(self, uri: str) -> BinaryIO:
        """The bytes of one object, to read piece by piece and to seek in, without holding them in memory.

        The caller closes it. What it reads is the object as it was when it was opened. Raises as `get`.
        """
        ...

    def put(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        """Store or replace one object: afterwards the new bytes are durable, or the old ones are untouched.

        Raises:
            InvalidInput: not an S3 URI, or a key that this store cannot hold.
            PermissionDenied: a read-only bucket, folder or disk.
            WrongState: the disk is full.
            BackendUnavailable: the store does not answer.
        """
        ...

    def head(self, uri: str) -> ObjectInfo | None:
        """Facts about one object, or None when there is none."""
        ...

    def list(self, prefix_uri: str, skipped: Callable[[SkippedObject], None] | None = None) -> Iterator[ObjectInfo]:
        """Every object whose URI starts with `prefix_uri` (a text prefix, as in S3), ordered by key.

        Args:
            skipped: told of what is there and cannot be listed; without it a folder that cannot be read is an error.
        """
        ...

    def delete(self, uri: str) -> None:
        """Remove one object; no error when there is none.

        Raises:
            PermissionDenied: a read-only bucket.
        """
        ...
