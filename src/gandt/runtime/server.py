# SPDX-License-Identifier: GPL-3.0-or-later
"""Serving applications: as a process that ends by signal, or in a thread of somebody else's process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from gandt.domain.errors import GandtError
from gandt.runtime.application import Application
from gandt.runtime.hosting import Addresses, GrpcHost, Host
from gandt.runtime.logs import configure_logging
from gandt.runtime.loop_thread import LoopThread
from gandt.runtime.peers import Peers
from gandt.runtime.service_settings import ServerSettings, ServiceSettings
from gandt.runtime.settings import describe

log = logging.getLogger(__name__)

S = TypeVar("S", bound=ServerSettings)
Served = Sequence[tuple[Application, ServerSettings]]
INTERRUPTED = 130
"""Exit code after a second signal, as shells have it for Ctrl-C."""

OnServing = Callable[[Mapping[str, Addresses]], None]


def main(settings_class: type[S], bootstrap: Callable[[S, Peers], Application]) -> int:
    """Whole `__main__` of a service: settings from the environment, then serve until a signal.

    Returns:
        The exit code: 0 after a clean stop, 1 when it could not start.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the loop runs; PID 1 has no default handler
    try:
        settings = settings_class()
        configure_logging(settings.log_level, settings.log_format)
        log.info("settings", extra={line.key: line.value for line in describe(settings)})
        peers = Peers.configured(settings.config_file)
        with contextlib.closing(peers):
            return run([(bootstrap(settings, peers), settings)])
    except GandtError as error:
        return _failed(error)


def serve(app: Application, settings: ServerSettings, on_serving: OnServing | None = None) -> int:
    """Serves one application until SIGTERM or SIGINT.

    Args:
        app: what to serve.
        settings: its settings.
        on_serving: called with the addresses once it is SERVING.
    Returns:
        The exit code: 0 after a clean stop, 1 when it could not start; the reason is on stderr.
    """
    configure_logging(settings.log_level, settings.log_format)
    try:
        return run([(app, settings)], on_serving)
    except GandtError as error:
        return _failed(error)


def run(served: Served, on_serving: OnServing | None = None, on_draining: Callable[[], None] | None = None) -> int:
    """Serves several applications in one process until SIGTERM or SIGINT; a second signal stops at once.

    Args:
        served: applications with their settings, in start order.
        on_serving: called with the addresses by name once all are SERVING.
        on_draining: called when the signal came, before running calls are waited for.
    Raises:
        GandtError: one of them cannot start; the others have been stopped.
    """
    if not asyncio.run(_until_signal(served, on_serving, on_draining)):
        # A thread that ignores its deadline would keep the interpreter waiting for ever.
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
    return 0


async def _until_signal(served: Served, on_serving: OnServing | None, on_draining: Callable[[], None] | None) -> bool:
    """Serves and stops; False when a thread was left behind."""
    stop = _on_signal()
    hosts = [make_host(app, settings) for app, settings in served]
    addresses: dict[str, Addresses] = {}
    try:
        for host, (app, settings) in zip(hosts, served, strict=True):
            _warn_when_open(app, settings)
            if not await _start(host, stop):
                break
            addresses[app.name] = host.addresses
            log.info("serving", extra={"service": app.name, "address": host.addresses.service})
        else:
            if on_serving is not None:
                await asyncio.to_thread(on_serving, addresses)
            await stop.wait()
        log.info("draining")
        if on_draining is not None:
            await asyncio.to_thread(on_draining)
    finally:
        ended = await _stop_all(hosts, max((settings.drain_seconds for _, settings in served), default=0.0))
    log.info("stopped")
    return ended


def _on_signal() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets; the second ends the process where it stands."""
    stop = asyncio.Event()

    def signaled() -> None:
        if stop.is_set():
            os._exit(INTERRUPTED)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, signaled)
    return stop


async def _start(host: Host, stop: asyncio.Event) -> bool:
    """Starts a service unless a signal comes first; False then."""
    starting = asyncio.ensure_future(host.start())
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if starting.done():
        await starting
        return True
    starting.cancel()
    await asyncio.wait((starting,))
    return False


async def _stop_all(hosts: Sequence[Host], seconds: float) -> bool:
    """Stops callers before the called, within one drain time for all; False when a thread was left behind."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + seconds
    ended = True
    for host in reversed(hosts):
        stopping = asyncio.ensure_future(host.stop(max(0.0, ends_at - loop.time())))
        await asyncio.wait((stopping,))
        if error := stopping.exception():  # the others must still be stopped
            log.error("a service did not close", exc_info=error)
        else:
            ended = stopping.result() and ended
    return ended


class ServerThread:
    """Serves applications from a background thread, for tests and for embedded use.

    Args:
        apps: one or several applications.
        settings: for all of them; by default free ports on loopback, no health or metrics port.
        socket_dir: with it gRPC services listen on unix domain sockets `<name>.sock` in that folder.
    """

    def __init__(
        self,
        apps: Application | Sequence[Application],
        settings: ServerSettings | None = None,
        socket_dir: Path | None = None,
    ) -> None:
        listed = [apps] if isinstance(apps, Application) else list(apps)
        chosen = settings or ServiceSettings(health_port=None, metrics_port=None, drain_seconds=5)
        self._hosts = {app.name: make_host(app, chosen, socket_dir) for app in listed}
        self._loop: LoopThread | None = None
        self.addresses: dict[str, Addresses] = {}

    def start(self) -> dict[str, Addresses]:
        """Serves; returns the addresses by application name.

        Raises:
            GandtError: one of them cannot start; the others have been stopped.
        """
        self._loop = LoopThread.acquire()
        try:
            for name, host in self._hosts.items():
                self.addresses[name] = self._loop.run(host.start())
        except BaseException:
            self.stop()
            raise
        return self.addresses

    def stop(self, drain_seconds: float | None = None) -> None:
        """Drains and closes; a second call does nothing."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        try:
            for host in reversed(self._hosts.values()):
                loop.run(host.stop(drain_seconds))
        finally:
            loop.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def make_host(app: Application, settings: ServerSettings, socket_dir: Path | None = None) -> Host:
    """The host for an application: HTTP when it has an ASGI app, else gRPC."""
    if app.http is not None:
        from gandt.runtime.http_hosting import HttpHost  # uvicorn is installed with the labeling service only

        return HttpHost(app, settings)
    if not isinstance(settings, ServiceSettings):
        raise TypeError(f"{app.name} speaks gRPC and its settings do not")
    return GrpcHost(app, settings, str(socket_dir / f"{app.name}.sock") if socket_dir else "")


def _warn_when_open(app: Application, settings: ServerSettings) -> None:
    local = settings.host in ("127.0.0.1", "::1", "localhost")
    if not local and settings.token is None and settings.tls_client_ca_file is None and app.http is None:
        log.warning(
            "anybody who reaches this address may call: no token and no client certificate is asked for",
            extra={"service": app.name, "host": settings.host, "fix": f"set GANDT_{app.name.upper()}__TOKEN"},
        )


def _failed(error: GandtError) -> int:
    log.error("could not start", extra={"reason": error.reason, "error": error.message, "fix": error.fix})
    return 1
