# SPDX-License-Identifier: GPL-3.0-or-later
"""What a bootstrap hands to the runtime: one service, ready to be served."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from prometheus_client import CollectorRegistry

from gandt.runtime.work_pool import WorkPool

Register = Callable[[grpc.aio.Server, WorkPool], None]
"""Adds servicers to a server, e.g. `lambda server, pool: add_servicer(EchoServicer(service, pool), server)`."""


Listening = Callable[[str], None]
"""Told where the service listens: `host:port`, `unix:PATH` or a URL."""


def _nothing(*_: object) -> None:
    return None


@dataclass
class Application:
    """One service with its adapters built, not yet listening.

    Args:
        name: short name, as in `gandt serve NAME` and the settings' prefix.
        grpc_service: full proto name for health checks; "" for a pure HTTP service.
        register: adds the servicers; not called for a pure HTTP service.
        listening: told the address once the port is taken, before `warm_up`; for services that hand it out.
        warm_up: slow preparation (weights, indexes). Runs in a worker thread before the service is SERVING;
            what it raises stops the start.
        close: releases what the bootstrap opened. Runs once, after the last call has ended.
        http: an ASGI app for services that speak HTTP; it gets the service port.
        registry: where the service's own metrics are; the runtime adds the RPC metrics and shows all.
    """

    name: str
    grpc_service: str = ""
    register: Register = _nothing
    listening: Listening = _nothing
    warm_up: Callable[[], None] = _nothing
    close: Callable[[], None] = _nothing
    http: Any = None
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
