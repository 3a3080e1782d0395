# SPDX-License-Identifier: GPL-3.0-or-later
"""Opaque page tokens: where a page ended, tied to the list that it is of."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from gandt.domain.errors import InvalidInput


def page_size(asked: int, default: int, most: int) -> int:
    """The size to use; 0 means the default.

    Raises:
        InvalidInput: more than `most`.
    """
    if asked > most:
        raise InvalidInput(
            f"page_size is {asked}, at most {most} are returned", field="page_size", reason="OUT_OF_RANGE"
        )
    return asked or default


def token_after(listing: str, key: Any) -> str:
    """The token of the page after `key` in a list (its name and filters as one text)."""
    return base64.urlsafe_b64encode(json.dumps([listing, key]).encode()).decode()


def key_of(token: str, listing: str) -> Any:
    """Where to go on; None for the first page.

    Raises:
        InvalidInput: not a token of this list.
    """
    if not token:
        return None
    try:
        found, key = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, binascii.Error, TypeError):
        found, key = None, None
    if found != listing:
        raise InvalidInput(
            "page_token does not belong to this list",
            field="page_token",
            reason="BAD_PAGE_TOKEN",
            fix="start again with an empty page_token",
        )
    return key
