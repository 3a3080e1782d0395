# SPDX-License-Identifier: GPL-3.0-or-later
"""Verifies AWS Signature Version 4: signed headers, presigned URLs and signed upload chunks.

Only what a server needs: one access key, the shared secret known. Payload hashes are checked against the body by the
caller, who has it (`payload_hash` says what was signed).
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote_plus

from gandt.domain.errors import Unauthenticated

MAX_SKEW_SECONDS = 300.0
UNSIGNED = "UNSIGNED-PAYLOAD"
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    rf"{_ALGORITHM}\s+Credential=(?P<credential>[^,\s]+),\s*SignedHeaders=(?P<headers>[^,\s]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature covers; enough to check signed chunks that follow it.

    Attributes:
        payload_hash: as signed: hex, UNSIGNED-PAYLOAD or a STREAMING-... word.
    """

    signature: str
    payload_hash: str
    date: str
    scope: str
    key: bytes

    def chunk_signature(self, previous: str, chunk: bytes) -> str:
        """The signature of a chunk after the one signed with `previous`."""
        digest = hashlib.sha256(chunk).hexdigest()
        text = "\n".join((f"{_ALGORITHM}-PAYLOAD", self.date, self.scope, previous, _EMPTY, digest))
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class HttpCall:
    """The parts of a request that a signature covers.

    Attributes:
        path: as sent, percent-encoded.
        query: as sent, without "?".
        headers: names in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]


class Verifier:
    """Checks signatures made with one access key.

    Args:
        access_key_id: the key's public name.
        secret: the key.
    """

    def __init__(self, access_key_id: str, secret: str) -> None:
        self._id = access_key_id
        self._secret = secret

    def verify(self, call: HttpCall, service: str, body_hash: str, now: datetime) -> Signed:
        """Check the signature of a request.

        Args:
            service: `sagemaker` or `s3`.
            body_hash: hex SHA-256 of the body; used where the client sent no x-amz-content-sha256.
        Raises:
            Unauthenticated: the reason is AWS's error code (MissingAuthenticationToken, InvalidSignatureException,
                UnrecognizedClientException, IncompleteSignature, RequestTimeTooSkewed, ExpiredToken).
        """
        pairs = _pairs(call.query)
        if dict(pairs).get("X-Amz-Algorithm") == _ALGORITHM:
            return self._verify_presigned(call, dict(pairs), service, now)
        authorization = call.headers.get("authorization", "")
        if not authorization:
            raise _refused("MissingAuthenticationToken", "the request is not signed")
        match = _AUTHORIZATION.fullmatch(authorization.strip())
        date = call.headers.get("x-amz-date", "")
        if match is None or not date:
            raise _refused("IncompleteSignature", "the Authorization header is not a Signature Version 4")
        _check_skew(date, now)
        payload_hash = call.headers.get("x-amz-content-sha256", body_hash)
        return self._check(
            call, pairs, match["credential"], match["headers"], match["signature"], date, payload_hash, service
        )

    def _verify_presigned(self, call: HttpCall, query: Mapping[str, str], service: str, now: datetime) -> Signed:
        needed = ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature")
        expires = query.get("X-Amz-Expires", "")
        is_number = expires.isascii() and expires.isdigit() and len(expires) <= 18
        if any(name not in query for name in needed) or not is_number:
            raise _refused("IncompleteSignature", "the presigned URL lacks a parameter")
        age = (now - _parse_date(query["X-Amz-Date"])).total_seconds()
        if age > min(int(expires), 604_800) or age < -MAX_SKEW_SECONDS:
            raise _refused("ExpiredToken", "the presigned URL is over")
        pairs = [pair for pair in _pairs(call.query) if pair[0] != "X-Amz-Signature"]
        return self._check(
            call,
            pairs,
            query["X-Amz-Credential"],
            query["X-Amz-SignedHeaders"],
            query["X-Amz-Signature"],
            query["X-Amz-Date"],
            UNSIGNED,
            service,
        )

    def _check(
        self,
        call: HttpCall,
        pairs: list[tuple[str, str]],
        credential: str,
        signed_headers: str,
        signature: str,
        date: str,
        payload_hash: str,
        service: str,
    ) -> Signed:
        key_id, _, scope = credential.partition("/")
        parts = scope.split("/")
        if len(parts) != 4 or parts[2:] != [service, "aws4_request"] or not date.startswith(parts[0]):
            raise _refused("InvalidSignatureException", f"the credential scope {scope!r} is not for {service}")
        names = signed_headers.split(";")
        if "host" not in names:
            raise _refused("InvalidSignatureException", "the host header is not signed")
        canonical = "\n".join(
            (
                call.method,
                call.path or "/",
                "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in sorted(pairs)),
                *(f"{name}:{' '.join(call.headers.get(name, '').split())}" for name in names),
                "",
                signed_headers,
                payload_hash,
            )
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        key = _signing_key(self._secret, parts)
        text = "\n".join((_ALGORITHM, date, scope, digest))
        expected = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        # Unknown key ids take the same way to the same refusal time; only then does the text differ.
        good = hmac.compare_digest(expected, signature)
        if not hmac.compare_digest(key_id.encode(), self._id.encode()):
            raise _refused("UnrecognizedClientException", "the access key is not known here")
        if not good:
            raise _refused("InvalidSignatureException", "the signature does not match; check the secret access key")
        return Signed(signature, payload_hash, date, scope, key)


def _signing_key(secret: str, scope: list[str]) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key


def _pairs(query: str) -> list[tuple[str, str]]:
    pairs = []
    for part in query.split("&") if query else []:
        name, _, value = part.partition("=")
        pairs.append((unquote_plus(name), unquote_plus(value)))
    return pairs


def _quoted(text: str) -> str:
    return quote(text, safe="-_.~")


def _parse_date(date: str) -> datetime:
    try:
        return datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise _refused("IncompleteSignature", f"{date!r} is not a date of the form 20261123T163908Z") from error


def _check_skew(date: str, now: datetime) -> None:
    skew = (now - _parse_date(date)).total_seconds()
    if abs(skew) > MAX_SKEW_SECONDS:
        raise _refused(
            "RequestTimeTooSkewed", f"the request was signed {abs(skew):.0f} s {'ago' if skew > 0 else 'in the future'}"
        )


def _refused(reason: str, message: str) -> Unauthenticated:
    return Unauthenticated(message, reason=reason)
