# SPDX-License-Identifier: GPL-3.0-or-later
"""The `Range` header, one range only, for objects and media alike."""

from __future__ import annotations

import re

from gandt.domain.errors import InvalidInput

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


def parse_range(header: str | None, size: int) -> range | None:
    """Positions of the bytes asked for; None for the whole, also for a header that asks for several ranges.

    Raises:
        InvalidInput: the range lies outside the object (reason InvalidRange, HTTP 416).
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if first:
        start, stop = int(first), min(int(last) + 1, size) if last else size
    else:
        start, stop = max(size - int(last), 0), size
    if start >= size or start >= stop:
        raise InvalidInput(f"the object has {size} bytes; {header} is outside", field="range", reason="InvalidRange")
    return range(start, stop)
