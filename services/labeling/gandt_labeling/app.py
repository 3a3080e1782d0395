# SPDX-License-Identifier: GPL-3.0-or-later
"""The ASGI application: every route of the labeling service, and what guards all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from gandt_labeling import api_s3, api_sagemaker, media, operator_api, portal
from gandt_labeling.web import Web

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

STATIC = Path(__file__).resolve().parent / "static"
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def build_app(web: Web, seen_at: Callable[[str, int, str], None], loopback_only: bool) -> ASGIApp:
    """The application.

    Args:
        seen_at: told host, port and scheme of our own socket with each request.
        loopback_only: refuse requests for other host names, so that no web page can reach unsigned calls by pointing
            its own name at this machine.
    """
    routes = [
        Route("/", _home, methods=["GET"]),
        *api_sagemaker.routes(web),
        *api_s3.routes(web),
        *portal.routes(web),
        *operator_api.routes(web),
        *media.routes(web),
        Mount("/static", _Static(directory=STATIC)),
    ]
    return _Guard(Starlette(routes=routes), seen_at, loopback_only)


async def _home(_request: Request) -> Response:
    return RedirectResponse("/work")


class _Static(StaticFiles):
    """Our scripts and styles, readable from the opaque origin of a worker's page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = "no-cache"
        return response


class _Guard:
    def __init__(self, inner: ASGIApp, seen_at: Callable[[str, int, str], None], loopback_only: bool) -> None:
        self._inner = inner
        self._seen_at = seen_at
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host, port = scope.get("server") or ("", None)
            if port:
                self._seen_at(host, port, scope.get("scheme", "http"))
            if self._loopback_only and not _is_loopback(scope):
                await PlainTextResponse("this service answers on loopback only\n", 421)(scope, receive, send)
                return
        await self._inner(scope, receive, send)


def _is_loopback(scope: Scope) -> bool:
    name = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
    bare = name.rsplit(":", 1)[0] if not name.endswith("]") else name
    return bare.lower() in LOOPBACK
