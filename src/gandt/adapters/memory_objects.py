# SPDX-License-Identifier: GPL-3.0-or-later
"""An object store in memory: the shipped fake, under the same contract suite as the real ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from io import BytesIO
from typing import BinaryIO

from gandt.domain.errors import InvalidInput, NotFound
from gandt.domain.images import join_uri, split_uri
from gandt.ports.object_store import ObjectInfo, SkippedObject


class MemoryObjects:
    """Objects in a dictionary; safe for several threads.

    Args:
        now: where `modified_at` comes from; pass a fixed clock's `now` in tests.
    """

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._objects: dict[str, tuple[bytes, ObjectInfo]] = {}
        self._lock = threading.Lock()

    def get(self, uri: str) -> bytes:
        """See `ObjectStore.get`."""
        found = self._objects.get(_object_uri(uri))
        if found is None:
            raise NotFound(f"object {uri} does not exist", kind="object", id=uri)
        return found[0]

    def open(self, uri: str) -> BinaryIO:
        """See `ObjectStore.open`."""
        return BytesIO(self.get(uri))

    def put(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        """See `ObjectStore.put`."""
        del content_type
        uri = _object_uri(uri)
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()  # S3's own choice for a plain put
        info = ObjectInfo(uri, len(data), etag, self._now())
        with self._lock:
            self._objects[uri] = (bytes(data), info)
        return info

    def head(self, uri: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        found = self._objects.get(_object_uri(uri))
        return found[1] if found else None

    def list(self, prefix_uri: str, skipped: Callable[[SkippedObject], None] | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`."""
        del skipped
        bucket, prefix = split_uri(prefix_uri)
        start = join_uri(bucket, prefix)
        with self._lock:
            found = [info for uri, (_, info) in self._objects.items() if uri.startswith(start)]
        return iter(sorted(found, key=lambda info: info.uri.encode()))

    def delete(self, uri: str) -> None:
        """See `ObjectStore.delete`."""
        with self._lock:
            self._objects.pop(_object_uri(uri), None)


def _object_uri(uri: str) -> str:
    bucket, key = split_uri(uri)
    if not key:
        raise InvalidInput(f"{uri!r} names a bucket and no key", field="uri", fix="write it as s3://bucket/key")
    return join_uri(bucket, key)
