# SPDX-License-Identifier: GPL-3.0-or-later
"""The RPC metrics of the gRPC ecosystem's convention, and the `/metrics` page."""

from __future__ import annotations

import threading
from collections.abc import Callable
from wsgiref.simple_server import WSGIServer

import grpc
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server

from gandt.ports.meter import SECONDS_BUCKETS

_LABELS = ("grpc_type", "grpc_service", "grpc_method")


class RpcMetrics:
    """Counts calls under the names that stock gRPC dashboards know.

    Args:
        registry: the service's registry.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._started = Counter("grpc_server_started_total", "RPCs started on the server.", _LABELS, registry=registry)
        self._handled = Counter(
            "grpc_server_handled_total",
            "RPCs completed on the server, whatever the outcome.",
            (*_LABELS, "grpc_code"),
            registry=registry,
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Seconds from the first byte of a call to its status.",
            _LABELS,
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )

    def of_method(self, kind: str, service: str, method: str) -> MethodMetrics:
        """The counters of one method.

        Args:
            kind: unary, client_stream, server_stream or bidi_stream.
            service: full proto service name.
            method: its name.
        """
        labels = (kind, service, method)
        return MethodMetrics(
            self._started.labels(*labels),
            self._seconds.labels(*labels),
            lambda code: self._handled.labels(*labels, camel_case(code)),
        )


class MethodMetrics:
    """The counters of one method. Looking them up by their labels costs more than counting."""

    def __init__(self, started: Counter, seconds: Histogram, handled: Callable[[grpc.StatusCode], Counter]) -> None:
        self._started = started
        self._seconds = seconds
        self._find = handled
        self._handled: dict[grpc.StatusCode, Counter] = {}

    def started(self) -> None:
        """A call began."""
        self._started.inc()

    def handled(self, code: grpc.StatusCode, seconds: float) -> None:
        """A call ended with that status."""
        counter = self._handled.get(code)
        if counter is None:
            counter = self._handled[code] = self._find(code)
        counter.inc()
        self._seconds.observe(seconds)


class MetricsPage:
    """Serves a registry under `/metrics` from a thread of its own.

    Raises:
        OSError: the port is taken.
    """

    def __init__(self, registry: CollectorRegistry, host: str, port: int) -> None:
        ProcessCollector(registry=registry)
        self._server: WSGIServer
        self._thread: threading.Thread
        self._server, self._thread = start_http_server(port, addr=host, registry=registry)
        self.port = self._server.server_port

    def close(self) -> None:
        """Stops answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def camel_case(code: grpc.StatusCode) -> str:
    """`DEADLINE_EXCEEDED` as `DeadlineExceeded`, `OK` as `OK`, as the convention has it."""
    if code is grpc.StatusCode.OK:
        return "OK"
    return code.name.replace("_", " ").title().replace(" ", "")
