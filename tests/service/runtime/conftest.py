# SPDX-License-Identifier: GPL-3.0-or-later
"""An echo service on a free port, and clients of it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gandt.client.connection import Channel, connect
from gandt.runtime.application import Application
from gandt.runtime.hosting import Addresses
from gandt.runtime.server import ServerThread
from gandt.runtime.service_settings import ServiceSettings

SERVICE = "gandt.echo.v1.EchoService"
SCRIPT = Path(__file__).parent / "echo_app.py"


@dataclass
class Echo:
    """A running echo service: its use cases, its addresses and a channel to it."""

    service: Any
    app: Application
    addresses: Addresses
    channel: Channel
    thread: ServerThread

    def call(self, method: str, request: bytes = b"", **kwargs: Any) -> Any:
        return self.channel.unary_unary(f"/{SERVICE}/{method}")(request, **kwargs)

    def stream(self, method: str, request: Any = b"", **kwargs: Any) -> Any:
        return self.channel.unary_stream(f"/{SERVICE}/{method}")(request, **kwargs)

    def health(self, name: str = SERVICE, address: str = "") -> int:
        with grpc.insecure_channel(address or self.addresses.service) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5).status)


@pytest.fixture(scope="session")
def echo_app() -> ModuleType:
    """The module next door; tests are no package, so it is loaded by its path."""
    spec = importlib.util.spec_from_file_location("echo_app", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


StartEcho = Callable[..., Echo]


@pytest.fixture
def start_echo(echo_app: ModuleType) -> Iterator[StartEcho]:
    """Starts echo services with the given settings; stops them after the test."""
    with ExitStack() as stack:

        def start(token: str | None = None, **values: Any) -> Echo:
            values = {"health_port": None, "metrics_port": None, "drain_seconds": 5, **values}
            if token is not None:
                values["token"] = token
            service = echo_app.EchoService()
            app = echo_app.application(service)
            thread = ServerThread(app, ServiceSettings(**values))
            addresses = thread.start()["echo"]
            stack.callback(thread.stop, 0.2)
            stack.callback(service.release.set)
            channel = stack.enter_context(connect(addresses.service, token, service="echo"))
            return Echo(service, app, addresses, channel, thread)

        yield start


@pytest.fixture
def echo(start_echo: StartEcho) -> Echo:
    """An echo service with default settings."""
    return start_echo()
