# SPDX-License-Identifier: GPL-3.0-or-later
"""What the HTTP routes share: bodies with a cap, worker threads, our own address, one table of portal errors."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from gandt.domain import disk
from gandt.domain.errors import (
    BackendUnavailable,
    GandtError,
    InvalidInput,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    WrongState,
)
from gandt.ports.clock import Clock
from gandt.ports.object_store import ObjectStore
from gandt_labeling.service.answers import MAX_ANSWER_BYTES
from gandt_labeling.service.jobs import LabelingJobs
from gandt_labeling.service.leases import Leases
from gandt_labeling.service.operator import Operator
from gandt_labeling.service.ports import Controller, PageRenderer
from gandt_labeling.service.tokens import Tokens
from gandt_labeling.service.workers import Workers
from gandt_labeling.service.workteams import Workteams
from gandt_labeling.sigv4 import HttpCall, Signed, Verifier

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("gandt.labeling.http")

_BODY = 2 * MAX_ANSWER_BYTES  # an answer and the JSON around it
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_STATUS: dict[type[GandtError], int] = {
    InvalidInput: 400,
    Unauthenticated: 401,
    PermissionDenied: 403,
    NotFound: 404,
    WrongState: 409,
    Overloaded: 429,
    BackendUnavailable: 503,
}


@dataclass(frozen=True, slots=True)
class Web:
    """Everything the routes use.

    Attributes:
        verifier: None lets unsigned API calls in (loopback only).
        operator_token: opens the operator's page and calls.
        controller: the job controller for the operator's page; None while none is connected.
        browser_image: makes a JPEG of an image that browsers do not show; InvalidInput when it is none.
        public_url: origin that workers see, "" to take it from each request.
        inline_scripts: whether a template's own inline scripts run.
        max_object_bytes: largest upload to /s3.
        poll_seconds: what Retry-After says when there is no task now.
        not_found_as_validation: answer ValidationException where SageMaker may do so instead of ResourceNotFound.
    """

    jobs: LabelingJobs
    workteams: Workteams
    leases: Leases
    workers: Workers
    operator: Operator
    tokens: Tokens
    objects: ObjectStore
    pages: PageRenderer
    clock: Clock
    verifier: Verifier | None
    operator_token: str
    browser_image: Callable[[bytes], bytes]
    controller: Callable[[], Controller | None] = lambda: None
    public_url: str = ""
    inline_scripts: bool = True
    max_object_bytes: int = 256 * 1024 * 1024
    poll_seconds: int = 2
    not_found_as_validation: bool = False

    def origin(self, request: Request) -> str:
        """Scheme, host and port under which the browser knows us."""
        return self.public_url.rstrip("/") or f"{request.url.scheme}://{request.url.netloc}"

    def verify(self, request: Request, service: str, body: bytes) -> Signed | None:
        """Check an API call's signature; None where none is needed.

        Raises:
            Unauthenticated: the signature is missing or wrong.
        """
        if self.verifier is None:
            return None
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            headers[name] = f"{headers[name]},{value}" if name in headers else value
        path = request.scope.get("raw_path", request.url.path.encode()).decode("ascii")
        call = HttpCall(request.method, path, request.scope["query_string"].decode("ascii"), headers)
        return self.verifier.verify(call, service, hashlib.sha256(body).hexdigest(), self.clock.now())


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body.

    Raises:
        InvalidInput: BODY_TOO_LARGE, more than `limit` bytes; the rest is not read.
    """
    declared = request.headers.get("content-length", "")
    chunks, size = [], int(declared) if declared.isascii() and declared.isdigit() else 0
    if size <= limit:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                break
            chunks.append(chunk)
        else:
            return b"".join(chunks)
    raise InvalidInput(f"the body is larger than {limit} bytes", field="body", reason="BODY_TOO_LARGE")


async def in_thread(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a synchronous use case without holding up other requests."""
    return await run_in_threadpool(call, *args, **kwargs)


async def json_body(request: Request) -> dict[str, Any]:
    """The body as a JSON object, {} for none.

    Raises:
        InvalidInput: it is none, or too large.
    """
    data = await read_body(request, _BODY)
    try:
        value = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the body is not JSON", field="body") from error
    if not isinstance(value, dict):
        raise InvalidInput("the body is not a JSON object", field="body")
    return value


def same_origin(web: Web, request: Request) -> None:
    """Refuse what another site's page makes a browser send; programs without a browser send neither header."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site")
    foreign = origin != web.origin(request) if origin is not None else site not in (None, "same-origin", "none")
    if foreign:
        raise PermissionDenied("this request comes from another site", reason="CROSS_SITE")


def iso(seconds: float) -> str:
    """A time as pages and programs get it, `2026-11-23T16:38:15.191Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_response(error: GandtError, headers: Mapping[str, str] | None = None) -> Response:
    """A domain error as the portal's JSON: `{"error": {"reason", "message", "fix"}}`."""
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if error.reason == "BODY_TOO_LARGE":
        status = 413
    if disk.is_disk_trouble(error):
        status = 507  # not the answer's fault: the page keeps it and sends it again
    body = {"error": {"reason": error.reason, "message": error.message, "fix": error.fix}}
    extra = dict(headers or {})
    if status in (429, 503, 507):
        extra["Retry-After"] = "2"
    return json_response(body, status, extra)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON that no cache keeps."""
    # ASCII: a worker's own text may hold half a surrogate pair, which has no UTF-8.
    content = json.dumps(body, allow_nan=False, separators=(",", ":")).encode("ascii")
    return Response(content, status, {"Cache-Control": "no-store", **(headers or {})}, media_type="application/json")
