# SPDX-License-Identifier: GPL-3.0-or-later
"""The id that follows one request through every service it touches.

A server keeps the id of the call it is answering here; the client puts it into the
metadata of the calls that it makes meanwhile, so one id finds all log lines of a request.
"""

from __future__ import annotations

import secrets
from contextvars import ContextVar

HEADER = "x-request-id"
"""Metadata key, both ways."""

CURRENT: ContextVar[str] = ContextVar("gandt_request_id", default="")
"""Id of the request being handled in this thread or task; empty outside of one."""

_MAX_CHARS = 128


def new_id() -> str:
    """A fresh id, 16 hex digits."""
    return secrets.token_hex(8)


def accept(given: str) -> str:
    """The caller's id when it is short and printable ASCII, else a fresh one."""
    return given if 0 < len(given) <= _MAX_CHARS and given.isascii() and given.isprintable() else new_id()
