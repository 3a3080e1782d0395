# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts an ASGI application on its port under the same rules as a gRPC service."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from http import HTTPStatus
from typing import Any

import structlog
import uvicorn

from gandt.domain.errors import GandtError
from gandt.runtime.application import Application
from gandt.runtime.hosting import Addresses, open_metrics
from gandt.runtime.lifecycle import Lifecycle, State
from gandt.runtime.listening import authority, open_listener
from gandt.runtime.metrics import MetricsPage
from gandt.runtime.service_settings import ServerSettings
from gandt.wire import request_ids

_PROBE_SECONDS = 5.0  # for a probe's request to come in

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class HttpHost:
    """An HTTP service with its metrics page. `/healthz` says the loop lives, `/readyz` that it serves.

    With a `health_port` both are also there, in plaintext: for probes that neither speak TLS nor get through a proxy.

    Args:
        app: an application with `http`.
        settings: port, limits, TLS.
    """

    def __init__(self, app: Application, settings: ServerSettings) -> None:
        self._app = app
        self._settings = settings
        self._lifecycle = Lifecycle()
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._page: MetricsPage | None = None
        self._health: asyncio.Server | None = None
        self._stopped = False
        self.addresses = Addresses("")

    async def start(self) -> Addresses:
        """Takes the ports, warms up, serves.

        Raises:
            WrongState: a port is taken.
        """
        try:
            self.addresses = await self._start()
            return self.addresses
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> Addresses:
        app, settings = self._app, self._settings
        listener = open_listener(app.name, "port", settings.host, settings.port)
        try:
            page = ""
            if settings.metrics_port is not None:
                self._page = open_metrics(app, settings)
                page = f"http://{authority(settings.host, self._page.port)}/metrics"
            health = await self._start_probes()
            self._server = _Server(_config(app, settings, self._lifecycle))
            self._serving = asyncio.ensure_future(self._server.serve(sockets=[listener]))
            while not self._server.started:
                await asyncio.wait((self._serving,), timeout=0.01)
                if self._serving.done():
                    raise self._serving.exception() or GandtError(f"{app.name} did not start; see its log")
        except BaseException:
            listener.close()
            raise
        scheme = "https" if settings.tls_cert_file else "http"
        address = f"{scheme}://{authority(settings.host, listener.getsockname()[1])}"
        app.listening(address)
        await asyncio.to_thread(app.warm_up)
        self._lifecycle.state = State.SERVING
        return Addresses(address, health, page)

    async def _start_probes(self) -> str:
        """The probes alone on a port of their own; "" without one."""
        port = getattr(self._settings, "health_port", None)
        if port is None:
            return ""
        listener = open_listener(self._app.name, "health_port", self._settings.host, port)
        self._health = await asyncio.start_server(self._probe, sock=listener)
        return f"http://{authority(self._settings.host, listener.getsockname()[1])}"

    async def _probe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.LimitOverrunError, TimeoutError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _PROBE_SECONDS)
            path = head.split(b" ", 2)[1:2]
            found = _state_of(path[0].decode("latin-1") if path else "", self._lifecycle)
            status, text = (404, "/healthz or /readyz") if found is None else found
            answer = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: text/plain\r\n"
            writer.write(f"{answer}Content-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}".encode())
            await writer.drain()
        writer.close()

    async def stop(self, drain_seconds: float | None = None) -> bool:
        """Takes no new connection, finishes running requests, closes; a second call does nothing."""
        if self._stopped:
            return True
        self._stopped = True
        seconds = self._settings.drain_seconds if drain_seconds is None else drain_seconds
        self._lifecycle.state = State.DRAINING
        if self._server is not None and self._serving is not None:
            self._server.config.timeout_graceful_shutdown = max(1, round(seconds))
            self._server.should_exit = True
            await asyncio.wait((self._serving,))
        try:
            await asyncio.to_thread(self._app.close)
        finally:
            if self._health is not None:
                self._health.close()
                self._health = None
            if self._page is not None:
                await asyncio.to_thread(self._page.close)
                self._page = None
        return True


def _state_of(path: str, lifecycle: Lifecycle) -> tuple[int, str] | None:
    """Status and text of a probe; None where the path is no probe's."""
    if path not in ("/healthz", "/readyz"):
        return None
    alive = path == "/healthz" or lifecycle.state is State.SERVING
    return (200 if alive else 503), lifecycle.state.value


class _Server(uvicorn.Server):
    """Signals belong to `serve()`, which stops all services of the process in order."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Probes:
    """Answers the probes, and gives each request its id."""

    def __init__(self, inner: Any, lifecycle: Lifecycle) -> None:
        self._inner = inner
        self._lifecycle = lifecycle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        if (found := _state_of(scope["path"], self._lifecycle)) is not None:
            await _answer(send, *found)
            return
        given = dict(scope["headers"]).get(request_ids.HEADER.encode(), b"").decode("latin-1")
        request_id = request_ids.accept(given)
        request_ids.CURRENT.set(request_id)
        structlog.contextvars.bind_contextvars(method=f"{scope['method']} {scope['path']}")

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (request_ids.HEADER.encode(), request_id.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self._inner(scope, receive, send_with_id)


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _config(app: Application, settings: ServerSettings, lifecycle: Lifecycle) -> uvicorn.Config:
    return uvicorn.Config(
        _Probes(app.http, lifecycle),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",  # Application has warm_up and close; a lifespan task would outlive a start that was cut short
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        ssl_ca_certs=str(settings.tls_client_ca_file) if settings.tls_client_ca_file else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if settings.tls_client_ca_file else ssl.CERT_NONE,
    )
