# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts one application on its ports: start, warm up, serve, drain, close. Runs on one event loop."""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import dataclass
from typing import Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gandt.runtime.application import Application
from gandt.runtime.certificates import server_credentials
from gandt.runtime.interceptors import HEALTH, Around
from gandt.runtime.lifecycle import Lifecycle, State
from gandt.runtime.listening import authority, cannot_listen, open_listener
from gandt.runtime.metrics import MetricsPage, RpcMetrics
from gandt.runtime.service_settings import ServerSettings, ServiceSettings
from gandt.runtime.watchable_health import DrainingHealth
from gandt.runtime.work_pool import WorkPool

log = logging.getLogger(__name__)

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNWIND_SECONDS = 2.0  # for threads of calls that were cancelled at the end of the drain


@dataclass(frozen=True)
class Addresses:
    """Where a started service listens; "" where it does not.

    Args:
        service: what a client connects to: `host:port`, `unix:PATH`, or for HTTP a URL.
        health: `host:port` of plaintext grpc.health.v1; of an HTTP service a URL with `/healthz` and `/readyz`.
        metrics: URL of the Prometheus page.
    """

    service: str
    health: str = ""
    metrics: str = ""


class Host(Protocol):
    """A service on its ports."""

    addresses: Addresses

    async def start(self) -> Addresses:
        """Binds, warms up and serves."""
        ...

    async def stop(self, drain_seconds: float | None = None) -> bool:
        """Finishes running calls and closes; False when a thread would not end."""
        ...


class GrpcHost:
    """A gRPC service with health, reflection and metrics beside it.

    Args:
        app: what to serve.
        settings: ports, limits, TLS, token.
        socket: path of a unix domain socket to listen on instead of host and port.
    """

    def __init__(self, app: Application, settings: ServiceSettings, socket: str = "") -> None:
        self._app = app
        self._settings = settings
        self._socket = socket
        self._lifecycle = Lifecycle()
        self._health = DrainingHealth()
        self._pool = WorkPool(settings.workers, settings.streams, settings.queue, name=app.name)
        self._servers: list[grpc.aio.Server] = []
        self._page: MetricsPage | None = None
        self._stopped = False
        self.addresses = Addresses("")

    async def start(self) -> Addresses:
        """Takes the ports, then prepares the service, then lets calls in.

        Raises:
            WrongState: a port is taken.
            InvalidInput: a TLS file cannot be read.
        """
        try:
            self.addresses = await self._start()
            return self.addresses
        except BaseException:
            await self.stop(0)
            raise

    async def _start(self) -> Addresses:
        app, settings = self._app, self._settings
        await self._health.set(app.grpc_service, _NOT_SERVING)
        token = settings.token.get_secret_value() if settings.token else None
        server = grpc.aio.server(
            interceptors=[Around(app.name, self._lifecycle, RpcMetrics(app.registry), token)],
            options=server_options(settings),
        )
        self._servers.append(server)
        app.register(server, self._pool)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        if settings.reflection:
            reflection.enable_server_reflection((app.grpc_service, HEALTH, reflection.SERVICE_NAME), server)
        address = self._bind(server)
        probes = await self._start_probes()
        page = self._start_page()
        await server.start()
        app.listening(address)
        await self._pool.run(app.warm_up)
        self._lifecycle.state = State.SERVING
        await self._health.set(app.grpc_service, _SERVING)
        return Addresses(address, probes, page)

    def _bind(self, server: grpc.aio.Server) -> str:
        settings = self._settings
        if self._socket:
            server.add_insecure_port(f"unix:{self._socket}")
            return f"unix:{self._socket}"
        port = _add_port(server, settings.host, settings.port, self._app.name, "port", server_credentials(settings))
        return authority(settings.host, port)

    async def _start_probes(self) -> str:
        """Health in plaintext on its own server: probes speak no TLS and carry no token."""
        settings = self._settings
        if settings.health_port is None:
            return ""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        self._servers.append(server)
        port = _add_port(server, settings.host, settings.health_port, self._app.name, "health_port", None)
        await server.start()
        return authority(settings.host, port)

    def _start_page(self) -> str:
        settings = self._settings
        if settings.metrics_port is None:
            return ""
        self._page = open_metrics(self._app, settings)
        return f"http://{authority(settings.host, self._page.port)}/metrics"

    async def stop(self, drain_seconds: float | None = None) -> bool:
        """Health says NOT_SERVING, running calls finish, then everything closes; a second call does nothing."""
        if self._stopped:
            return True
        self._stopped = True
        seconds = self._settings.drain_seconds if drain_seconds is None else drain_seconds
        self._lifecycle.state = State.DRAINING
        await self._health.set(self._app.grpc_service, _NOT_SERVING)
        self._pool.drain()
        if self._servers:
            # One stop for each server: a second one beside it can use what the first has freed (grpc.aio crashes then).
            await asyncio.gather(self._servers[0].stop(seconds), self._health.end_watches())
        ended = await asyncio.to_thread(self._pool.close, _UNWIND_SECONDS)
        if not ended:
            log.warning("a call did not end in time and is abandoned", extra={"service": self._app.name})
        try:
            await asyncio.to_thread(self._app.close)
        finally:
            for server in self._servers[1:]:
                await server.stop(None)
            if self._page is not None:
                await asyncio.to_thread(self._page.close)
                self._page = None
        return ended


def server_options(settings: ServiceSettings) -> list[tuple[str, int]]:
    """Channel arguments of every server."""
    options = [
        ("grpc.so_reuseport", 0),  # by default two servers on one port share it silently
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", 64 * 1024),  # error details travel as trailing metadata
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),  # clients ping every 60 s
    ]
    if settings.max_connection_age_seconds is not None:
        options.append(("grpc.max_connection_age_ms", int(settings.max_connection_age_seconds * 1000)))
    return options


def open_metrics(app: Application, settings: ServerSettings) -> MetricsPage:
    """The metrics page of an application. Raises WrongState when its port is taken."""
    assert settings.metrics_port is not None
    try:
        return MetricsPage(app.registry, settings.host, settings.metrics_port)
    except OSError as error:
        raise cannot_listen(app.name, "metrics_port", settings.host, settings.metrics_port, error) from error


def _add_port(
    server: grpc.aio.Server, host: str, port: int, service: str, key: str, credentials: grpc.ServerCredentials | None
) -> int:
    # gRPC says only "failed to bind" and writes its own lines to stderr; a socket knows why.
    open_listener(service, key, host, port).close()
    address = authority(host, port)
    try:
        if credentials is None:
            return int(server.add_insecure_port(address))
        return int(server.add_secure_port(address, credentials))
    except RuntimeError as error:  # somebody took it in between
        raise cannot_listen(service, key, host, port, OSError(errno.EADDRINUSE, "in use")) from error
