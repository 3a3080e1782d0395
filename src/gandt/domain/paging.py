# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages of lists: how long one is, and where the next begins."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from gandt.domain.errors import InvalidInput

T = TypeVar("T")
MAX_KEY = 2**63 - 1


def page_size(asked: int, default: int, most: int) -> int:
    """The size to use; 0 means the default.

    Raises:
        InvalidInput: not in 0 to `most`.
    """
    if not 0 <= asked <= most:
        raise InvalidInput(f"page_size is {asked}, it must be 0 to {most}", field="page_size", reason="BAD_PAGE_SIZE")
    return asked or default


def page_by_name(records: Iterable[T], name_of: Callable[[T], str], size: int, after: str) -> tuple[list[T], str]:
    """A page of records that stand in the order of their names, and the token of the next; "" on the last.

    Args:
        size: from `page_size`.
        after: the token, which is the last name of the page before; "" for the first page.

    >>> page_by_name(["a", "b", "c"], str, 2, "")
    (['a', 'b'], 'b')
    >>> page_by_name(["a", "b", "c"], str, 2, "b")
    (['c'], '')
    """
    rest = [record for record in records if name_of(record) > after]
    page = rest[:size]
    return page, name_of(page[-1]) if len(rest) > size else ""


def token_after(listing: str, key: Any) -> str:
    """The token of the page after `key` in a list (its name and filters as one text)."""
    return base64.urlsafe_b64encode(json.dumps([listing, key]).encode()).decode()


def number_of(token: str, listing: str) -> int:
    """The number to go on after; 0 for the first page.

    Raises:
        InvalidInput: not a token of this list.
    """
    (key,) = key_of(token, listing, int) or (0,)
    return int(key)


def text_of(token: str, listing: str) -> str:
    """The name to go on after; "" for the first page.

    Raises:
        InvalidInput: not a token of this list.
    """
    (key,) = key_of(token, listing, str) or ("",)
    return str(key)


def key_of(token: str, listing: str, *kinds: type) -> tuple[Any, ...] | None:
    """The parts of the key to go on after; None for the first page.

    Args:
        listing: as `token_after` got it.
        kinds: `str` or `int` for each part of the key; a number must be 0 to 2**63 - 1, as databases hold no other.

    Raises:
        InvalidInput: not a token of this list.
    """
    if not token:
        return None
    try:
        found, key = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, RecursionError):
        found, key = None, None
    parts = tuple(key) if isinstance(key, list) else (key,)
    fits = len(parts) == len(kinds) and all(_fits(part, kind) for part, kind in zip(parts, kinds, strict=True))
    if found != listing or not fits:
        raise bad_token()
    return parts


def bad_token() -> InvalidInput:
    """The error for a page token that no page of the list ended with."""
    return InvalidInput(
        "page_token does not belong to this list",
        field="page_token",
        reason="BAD_PAGE_TOKEN",
        fix="start again with an empty page_token",
    )


def _fits(part: object, kind: type) -> bool:
    if type(part) is not kind:  # True is an int, too
        return False
    if isinstance(part, int):
        return 0 <= part <= MAX_KEY
    return isinstance(part, str) and not re.search("[\0\ud800-\udfff]", part)  # what no database takes
