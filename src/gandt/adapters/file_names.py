# SPDX-License-Identifier: GPL-3.0-or-later
"""How a key of the object store is written as a relative path, and back.

Ground Truth's keys carry colons, which some file systems refuse; a key may also hold `..` or empty parts. Such
characters are percent-encoded, so that every key has exactly one path below its bucket and no key leaves it. In a
mounted photo folder the names stand as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

from gandt.domain.errors import InvalidInput

_UNSAFE = re.compile(r'[\x00-\x1f\x7f%:\\*?"<>|]')
_EMPTY = "%"  # a lone percent sign: no encoded character looks like it


def encoded(key: str) -> str:
    """The relative path of a key in one of our own buckets."""
    return "/".join(_encoded_part(part) for part in key.split("/"))


def plain(key: str) -> str:
    """The relative path of a key in a mounted folder: the key itself.

    Raises:
        InvalidInput: a part is empty, `.` or `..`, or holds a NUL.
    """
    if "\x00" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise InvalidInput(f"{key!r} cannot be a file's path", field="uri", reason="KEY_NOT_A_PATH")
    return key


def key_of(path: Path, mounted: bool) -> str | None:
    """The key of a relative path; None for a name that is not UTF-8 or that no key is written as."""
    text = path.as_posix()
    try:
        text.encode()
    except UnicodeEncodeError:
        return None
    if mounted:
        return text
    key = "/".join("" if part == _EMPTY else unquote(part) for part in text.split("/"))
    return key if encoded(key) == text else None


def _encoded_part(part: str) -> str:
    if part == "":
        return _EMPTY
    if part in (".", ".."):
        return "%2E" * len(part)
    return _UNSAFE.sub(lambda match: f"%{ord(match.group()):02X}", part)
