# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image is called and where its bytes are."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from gandt.domain.errors import InvalidInput

_SCHEME = "s3://"


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


def split_uri(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; the key is "" when there is none.

    The text is cut at the first "/" after the bucket and nowhere else: a URL parser would lose what follows
    a "#" or "?" in a key.

    Raises:
        InvalidInput: not an S3 URI, or no bucket in it.
    """
    if not uri.startswith(_SCHEME):
        raise InvalidInput(f"{uri!r} is not an S3 URI", field="uri", fix="write it as s3://bucket/key")
    bucket, _, key = uri[len(_SCHEME) :].partition("/")
    if not bucket:
        raise InvalidInput(f"{uri!r} names no bucket", field="uri", fix="write it as s3://bucket/key")
    return bucket, key


def join_uri(bucket: str, key: str) -> str:
    """`s3://bucket/key`, the inverse of `split_uri`; the key is taken as it is.

    Raises:
        InvalidInput: an empty bucket, or a "/" in it.
    """
    if not bucket or "/" in bucket:
        raise InvalidInput(f"{bucket!r} is not a bucket's name", field="bucket")
    return f"{_SCHEME}{bucket}/{key}"
