# SPDX-License-Identifier: GPL-3.0-or-later
"""Decodes `Content-Encoding: aws-chunked` uploads and checks the checksums that SDKs send with them.

<hex size>[;chunk-signature=<hex>]\\r\\n<bytes>\\r\\n ... 0[;chunk-signature=<hex>]\\r\\n[trailer: value\\r\\n...]\\r\\n
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import zlib
from collections.abc import Callable, Mapping

from gandt.domain.errors import InvalidInput, Unauthenticated
from gandt_labeling.sigv4 import Signed

_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "x-amz-checksum-crc32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data).digest(),
}


def decode(body: bytes, signed: Signed | None) -> tuple[bytes, dict[str, str]]:
    """The object's bytes and the trailing headers.

    Args:
        signed: the request's signature where chunks must carry theirs; None where they need not.
    Raises:
        InvalidInput: the framing is broken.
        Unauthenticated: a chunk's signature is missing or wrong.
    """
    data, position = bytearray(), 0
    previous = signed.signature if signed else ""
    while True:
        end = body.find(b"\r\n", position)
        if end < 0:
            raise _broken("a chunk has no header")
        size_text, _, extension = body[position:end].decode("latin-1").partition(";")
        try:
            size = int(size_text, 16)
        except ValueError as error:
            raise _broken(f"{size_text!r} is not a chunk size") from error
        chunk = body[end + 2 : end + 2 + size]
        if size < 0 or len(chunk) != size:
            raise _broken("a chunk is shorter than it says")
        if signed is not None:
            previous = _check_chunk(signed, previous, chunk, extension)
        position = end + 2 + size
        if size == 0:
            return bytes(data), _trailers(body[position:])
        data += chunk
        if body[position : position + 2] != b"\r\n":
            raise _broken("a chunk does not end where it says")
        position += 2


def check_checksums(data: bytes, headers: Mapping[str, str]) -> dict[str, str]:
    """Compare every checksum header that we can compute; CRC32C and CRC64NVME pass unread.

    Returns:
        The checksums that were checked, to be sent back.
    Raises:
        InvalidInput: one differs (reason BadDigest).
    """
    checked = {}
    for name, compute in _CHECKSUMS.items():
        if name in headers:
            if headers[name].strip() != base64.b64encode(compute(data)).decode():
                raise InvalidInput(f"{name} does not match the bytes received", field=name, reason="BadDigest")
            checked[name] = headers[name].strip()
    digest = headers.get("content-md5")
    if digest and digest.strip() != base64.b64encode(hashlib.md5(data).digest()).decode():
        raise InvalidInput("Content-MD5 does not match the bytes received", field="content-md5", reason="BadDigest")
    return checked


def _check_chunk(signed: Signed, previous: str, chunk: bytes, extension: str) -> str:
    given = extension.partition("chunk-signature=")[2]
    expected = signed.chunk_signature(previous, chunk)
    if not hmac.compare_digest(given, expected):
        raise Unauthenticated("a chunk's signature does not match", reason="SignatureDoesNotMatch")
    return expected


def _trailers(rest: bytes) -> dict[str, str]:
    trailers = {}
    for line in rest.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            trailers[name.strip().lower()] = value.strip()
    return trailers


def _broken(why: str) -> InvalidInput:
    return InvalidInput(f"the upload is not aws-chunked: {why}", field="body", reason="IncompleteBody")
