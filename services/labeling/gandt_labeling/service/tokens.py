# SPDX-License-Identifier: GPL-3.0-or-later
"""Signed texts that the service hands out and takes back: invites, sessions, media links, page tokens.

Nothing is stored: a token is its JSON, its expiry and an HMAC-SHA-256 over both and over the token's kind, so a
media link can never pass as a session.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from gandt.domain.errors import Unauthenticated


class Tokens:
    """Makes and opens tokens.

    Args:
        secret: the deployment's key, at least 16 bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 16:
            raise ValueError("the signing secret needs at least 16 bytes")
        self._secret = secret

    def make(self, kind: str, claims: dict[str, Any], expires_at: float | None = None) -> str:
        """A URL-safe token; `expires_at` in epoch seconds, None for never."""
        body = json.dumps({**claims, "x": expires_at}, separators=(",", ":"), sort_keys=True).encode()
        return f"{_text(body)}.{_text(self._seal(kind, body))}"

    def open(self, kind: str, token: str, now: float) -> dict[str, Any]:
        """The claims of a token.

        Raises:
            Unauthenticated: it is not one of ours, of another kind (TOKEN_INVALID), or over (TOKEN_EXPIRED).
        """
        body_text, _, seal_text = token.partition(".")
        try:
            body, seal = _bytes(body_text), _bytes(seal_text)
        except (binascii.Error, ValueError) as error:
            raise _invalid(kind) from error
        if not hmac.compare_digest(seal, self._seal(kind, body)):
            raise _invalid(kind)
        claims: dict[str, Any] = json.loads(body)
        expires_at = claims.pop("x")
        if expires_at is not None and now > expires_at:
            raise Unauthenticated(f"this {kind} is over", reason="TOKEN_EXPIRED", fix="ask for a new one")
        return claims

    def pseudonym(self, kind: str, name: str) -> str:
        """16 hex digits that stand for `name` in this deployment only."""
        return self._seal(f"pseudonym-{kind}", name.encode()).hex()[:16]

    def _seal(self, kind: str, body: bytes) -> bytes:
        return hmac.new(self._secret, kind.encode() + b"\0" + body, hashlib.sha256).digest()


def _invalid(kind: str) -> Unauthenticated:
    return Unauthenticated(f"this {kind} was not made here", reason="TOKEN_INVALID", fix="ask for a new one")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
