# SPDX-License-Identifier: GPL-3.0-or-later
"""ListObjectsV2 over the object store: prefix, delimiter, pages."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from urllib.parse import quote
from xml.sax.saxutils import escape

from gandt.domain.errors import InvalidInput
from gandt.domain.images import join_uri, split_uri
from gandt.ports.object_store import ObjectInfo, ObjectStore

MAX_KEYS = 1000


def list_objects(objects: ObjectStore, bucket: str, query: Mapping[str, str]) -> str:
    """The XML answer.

    Raises:
        InvalidInput: max-keys is not a number, or the continuation token is not ours.
    """
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    size = _size(query.get("max-keys", str(MAX_KEYS)))
    token = query.get("continuation-token", "")
    after = _open(token) if token else query.get("start-after", "")
    shown: Callable[[str], str] = _url_text if query.get("encoding-type") == "url" else escape
    page: list[str] = []
    last = ""
    more = False
    for name, info in _entries(objects.list(join_uri(bucket, prefix)), prefix, delimiter, after):
        if len(page) == size:
            more = True
            break
        last = name
        page.append(_entry(shown(name), info))
    return "".join(
        (
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">',
            f"<Name>{escape(bucket)}</Name><Prefix>{shown(prefix)}</Prefix><MaxKeys>{size}</MaxKeys>",
            f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>",
            f"<Delimiter>{shown(delimiter)}</Delimiter>" if delimiter else "",
            "<EncodingType>url</EncodingType>" if query.get("encoding-type") == "url" else "",
            f"<ContinuationToken>{escape(token)}</ContinuationToken>" if token else "",
            f"<NextContinuationToken>{_seal(last)}</NextContinuationToken>" if more else "",
            *page,
            "</ListBucketResult>",
        )
    )


def _entries(
    found: Iterator[ObjectInfo], prefix: str, delimiter: str, after: str
) -> Iterator[tuple[str, ObjectInfo | None]]:
    """Keys and, with a delimiter, common prefixes (without info), in the order of the keys' bytes."""
    begun = ""
    for info in found:
        key = split_uri(info.uri)[1]
        if delimiter and (cut := key.find(delimiter, len(prefix))) >= 0:
            common = key[: cut + len(delimiter)]
            if common != begun and common.encode() > after.encode():
                yield common, None
            begun = common
        elif key.encode() > after.encode():
            yield key, info


def _entry(name: str, info: ObjectInfo | None) -> str:
    if info is None:
        return f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"
    modified = info.modified_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    etag = info.etag.strip('"')
    return (
        f"<Contents><Key>{name}</Key><LastModified>{modified}</LastModified><ETag>&quot;{etag}&quot;</ETag>"
        f"<Size>{info.size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
    )


def _url_text(text: str) -> str:
    return quote(text, safe="/")


def _size(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 18:
        raise InvalidInput("max-keys must be a number", field="max-keys", reason="InvalidArgument")
    return min(int(text), MAX_KEYS)


def _seal(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _open(token: str) -> str:
    try:
        return base64.urlsafe_b64decode(token.encode("ascii")).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "the continuation token was not made here", field="continuation-token", reason="InvalidArgument"
        ) from error
