# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection that every typed client uses: limits, retries, deadlines, tokens, domain errors.

`Channel` is a grpc.Channel, so generated stubs take it as it is. Calls wait a bounded time
for the first connection, carry the request id of the call they are made in, are retried by
gRPC when a server goes away, and raise the classes of `gandt.domain.errors`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from gandt.domain.errors import BackendUnavailable, InvalidInput
from gandt.wire import request_ids
from gandt.wire.errors import from_rpc_error

MAX_MESSAGE_BYTES = 41 << 20
"""Largest message that any service sends or takes: one image of 40 MiB and 1 MiB head room."""

UNARY_SECONDS = 300.0
"""Deadline of a unary call that names none: selections over a million images take minutes, nothing takes longer."""

CONNECT_SECONDS = 5.0
"""How long the first call waits for a server."""


@dataclass(frozen=True)
class Tls:
    """How to trust a server, and be trusted by it.

    Args:
        ca_file: PEM of the CA that signed the server's certificate; None trusts the system's.
        cert_file: PEM client certificate, for servers that ask for one.
        key_file: PEM key of it.
        server_name: name in the server's certificate when it is not the host we call.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str = ""


@dataclass(frozen=True)
class Target:
    """Where a service is and how to be let in.

    Args:
        endpoint: `host:port`, `unix:PATH`, or any gRPC target such as `dns:///name:port`.
        token: bearer token.
        tls: None for plaintext.
    """

    endpoint: str
    token: str | None = None
    tls: Tls | None = None


def connect(
    endpoint: str,
    token: str | None = None,
    tls: Tls | None = None,
    *,
    service: str = "",
    connect_seconds: float = CONNECT_SECONDS,
) -> Channel:
    """A channel to one service; nothing is sent before the first call.

    Args:
        endpoint: `host:port`, `unix:PATH`, or any gRPC target such as `dns:///name:port`.
        token: bearer token.
        tls: None for plaintext.
        service: short name of the service, for error texts.
        connect_seconds: how long the first call waits for a server.
    Raises:
        InvalidInput: a TLS file cannot be read.
    """
    return Channel(Target(endpoint, token, tls), service=service or endpoint, connect_seconds=connect_seconds)


class Channel(grpc.Channel):
    """A grpc.Channel with the manners described above. Thread-safe.

    Args:
        target: where to; a function is asked at the first call, so that naming a peer does not start it.
        service: short name of the service, for error texts.
        connect_seconds: how long the first call waits for a server.
    """

    def __init__(
        self, target: Target | Callable[[], Target], service: str, connect_seconds: float = CONNECT_SECONDS
    ) -> None:
        self.service = service
        self._find = target if callable(target) else lambda: target
        self._connect_seconds = connect_seconds
        self._target: Target | None = None
        self._channel: grpc.Channel | None = None
        self._ready = False
        self._closed = False
        self._lock = threading.RLock()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """A callable for the method, as generated stubs ask for."""
        return _Call(self, lambda channel: channel.unary_unary(method, *args, **kwargs), seconds=UNARY_SECONDS)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `unary_unary`; bulk uploads have no default deadline."""
        return _Call(self, lambda channel: channel.stream_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `unary_unary`, yielding responses; streams have no default deadline, keepalive ends dead ones."""
        return _Call(self, lambda channel: channel.unary_stream(method, *args, **kwargs), streams=True)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """As `unary_stream`."""
        return _Call(self, lambda channel: channel.stream_stream(method, *args, **kwargs), streams=True)

    def subscribe(self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False) -> None:
        """As grpc.Channel."""
        self._open().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """As grpc.Channel."""
        self._open().unsubscribe(callback)

    def close(self) -> None:
        """Ends running calls and the connection."""
        with self._lock:
            self._closed = True
            if self._channel is not None:
                self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self.close()
        return None

    def ready(self) -> grpc.Channel:
        """The connected channel; waits for the first connection.

        Raises:
            BackendUnavailable: nobody answered in time.
        """
        with self._lock:
            channel = self._open()
            if not self._ready:
                connected = grpc.channel_ready_future(channel)
                try:
                    connected.result(timeout=self._connect_seconds)
                except grpc.FutureTimeoutError:
                    raise self._unreachable() from None
                finally:
                    connected.cancel()
                self._ready = True
            return channel

    def _open(self) -> grpc.Channel:
        with self._lock:
            if self._closed:
                raise BackendUnavailable(
                    f"the connection to {self.service} is closed", backend=self.service, reason="CHANNEL_CLOSED"
                )
            if self._channel is None:
                self._target = target = self._find()
                options = _options(target.tls)
                if target.tls is None:
                    self._channel = grpc.insecure_channel(target.endpoint, options)
                else:
                    self._channel = grpc.secure_channel(target.endpoint, _credentials(target.tls), options)
            return self._channel

    def _unreachable(self) -> BackendUnavailable:
        assert self._target is not None
        return BackendUnavailable(
            f"the {self.service} service cannot be reached at {self._target.endpoint}",
            backend=self.service,
            reason="UNREACHABLE",
            fix="start it with `gandt serve`, or check the endpoint (and its TLS settings)",
        )

    def metadata(self) -> list[tuple[str, str]]:
        """What every call carries."""
        pairs = [(request_ids.HEADER, request_ids.CURRENT.get() or request_ids.new_id())]
        if self._target is not None and self._target.token is not None:
            pairs.append(("authorization", f"Bearer {self._target.token}"))
        return pairs


class _Call:
    """One method of a stub; bound to the real channel by its first call."""

    def __init__(
        self,
        channel: Channel,
        bind: Callable[[grpc.Channel], Any],
        streams: bool = False,
        seconds: float | None = None,
    ) -> None:
        self._channel = channel
        self._bind = bind
        self._bound: Any = None
        self._streams = streams
        self._seconds = seconds

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        connected = self._channel.ready()
        if self._bound is None:
            self._bound = self._bind(connected)
        all_metadata = [*self._channel.metadata(), *(metadata or ())]
        seconds = self._seconds if timeout is None else timeout
        try:
            answer = self._bound(request, seconds, all_metadata, credentials, wait_for_ready, compression)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._channel.service) from error
        return Responses(answer, self._channel.service) if self._streams else answer


class Responses(Iterator[Any]):
    """The responses of a stream; iterating raises domain errors. Close it when you stop early."""

    def __init__(self, call: Any, service: str) -> None:
        self._call = call
        self._service = service

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except grpc.RpcError as error:
            raise from_rpc_error(error, self._service) from error

    def close(self) -> None:
        """Tells the server that nobody reads any more."""
        self._call.cancel()

    cancel = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _options(tls: Tls | None) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_metadata_size", 64 * 1024),
        ("grpc.keepalive_time_ms", 60_000),  # servers accept a ping every 30 s
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
        ("grpc.dns_min_time_between_resolutions_ms", 5_000),  # notice new pods in seconds, not in 30
        ("grpc.max_reconnect_backoff_ms", 5_000),
        ("grpc.initial_reconnect_backoff_ms", 100),
    ]
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


# Every method is idempotent or takes a request id (design section 4), so all of them may be sent again.
# A server that is stopped answers CANCELLED now and then instead of UNAVAILABLE.
_SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
            },
        }
    ],
    "retryThrottling": {"maxTokens": 20, "tokenRatio": 0.1},
}


def _credentials(tls: Tls) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(
        root_certificates=_pem(tls.ca_file), private_key=_pem(tls.key_file), certificate_chain=_pem(tls.cert_file)
    )


def _pem(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field="tls", reason="TLS_FILE") from error
