# SPDX-License-Identifier: GPL-3.0-or-later
"""The RPC metrics of the gRPC ecosystem's convention, and the `/metrics` page."""

from __future__ import annotations

import threading
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

    def started(self, kind: str, service: str, method: str) -> None:
        """A call began."""
        self._started.labels(kind, service, method).inc()

    def handled(self, kind: str, service: str, method: str, code: grpc.StatusCode, seconds: float) -> None:
        """A call ended with that status."""
        self._handled.labels(kind, service, method, camel_case(code)).inc()
        self._seconds.labels(kind, service, method).observe(seconds)


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
