# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens around every RPC: count it, translate its errors, ask for the token, watch the time.

One interceptor does it all, and wraps each method once: a chain would wrap each call again. Order within a call:
counting is outermost, then the translation of errors, then the refusals, so that these are translated and counted like
everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Unauthenticated
from gandt.runtime.lifecycle import Lifecycle, State
from gandt.runtime.metrics import MethodMetrics, RpcMetrics
from gandt.wire import errors, request_ids

log = logging.getLogger(__name__)

HEALTH = "grpc.health.v1.Health"
_OURS_NOT = (HEALTH, "grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC method of this server.

    Args:
        service: full proto service name.
        name: method name.
        metrics: its counters.
    """

    service: str
    name: str
    metrics: MethodMetrics

    @property
    def is_infrastructure(self) -> bool:
        """Health and reflection: always answered, never drained for."""
        return self.service in _OURS_NOT


class Around(grpc.aio.ServerInterceptor):
    """Wraps every handler of a server.

    Args:
        service: short name of the service, for error domains.
        lifecycle: counts running calls and says when calls are let in.
        metrics: where calls are counted.
        token: bearer token that calls must carry; None asks for none.
    """

    def __init__(self, service: str, lifecycle: Lifecycle, metrics: RpcMetrics, token: str | None) -> None:
        self.service = service
        self.lifecycle = lifecycle
        self.expected = None if token is None else f"Bearer {token}".encode()
        self._metrics = metrics
        self._wrapped: dict[str, Any] = {}  # by full method name; unknown names are not kept

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """The wrapped handler of the method; an unknown method stays unknown."""
        wrapped = self._wrapped.get(details.method)
        if wrapped is None:
            handler = await continuation(details)
            if handler is None:
                return None
            wrapped = self._wrapped[details.method] = self._wrap(details.method, handler)
        return wrapped

    def _wrap(self, path: str, handler: Any) -> Any:
        _, service, name = path.rsplit("/", 2)
        method = Method(service, name, self._metrics.of_method(_KINDS[_shape(handler)], service, name))
        inner: Callable[[Any, Any], Any] = getattr(handler, _shape(handler))

        def readable(request: Any) -> Any:
            return _Readable(request) if handler.request_streaming else _well_formed(request)

        async def unary(request: Any, context: Any) -> Any:
            async with _Running(self, method, context) as running:
                running.admit()
                return await inner(readable(request), context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with _Running(self, method, context) as running:
                running.admit()
                responses = inner(readable(request), context)
                if inspect.isawaitable(responses):  # a handler that writes to the context itself
                    await responses
                    return
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield response

        make = getattr(grpc, f"{_shape(handler)}_rpc_method_handler")
        return make(
            stream if handler.response_streaming else unary,
            request_deserializer=_forgiving(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


class _Running:
    """One call from its start to its status."""

    __slots__ = ("_around", "_context", "_method", "_started")

    def __init__(self, around: Around, method: Method, context: Any) -> None:
        self._around = around
        self._method = method
        self._context = context

    async def __aenter__(self) -> _Running:
        method = self._method
        request_id = request_ids.accept(self._sent(request_ids.HEADER))
        request_ids.CURRENT.set(request_id)
        structlog.contextvars.bind_contextvars(method=f"{method.service}/{method.name}")
        self._context.set_trailing_metadata(((request_ids.HEADER, request_id),))
        self._started = time.perf_counter()
        method.metrics.started()
        if not method.is_infrastructure:
            self._around.lifecycle.enter()
        return self

    def admit(self) -> None:
        """Raises when the call must not be answered: wrong token, wrong moment, too late."""
        around, method = self._around, self._method
        if around.expected is not None and method.service != HEALTH:
            _check_token(self._sent("authorization"), around.expected)
        state = around.lifecycle.state
        if state is not State.SERVING and not method.is_infrastructure:
            raise BackendUnavailable(
                f"the {around.service} service is {state.value}",
                backend=around.service,
                reason="WARMING_UP" if state is State.WARMING else "SHUTTING_DOWN",
                fix="call again in a moment",
            )
        if self._is_late():
            raise DeadlineExceeded("the call arrived after its deadline")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ended_by = error
        try:
            if isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError | grpc.aio.UsageError):
                await _abort(self._context, _shown(error, self._around.service), self._around.service)
        except BaseException as raised:
            ended_by = raised
            raise
        finally:
            self._count(ended_by)

    def _count(self, ended_by: BaseException | None) -> None:
        method = self._method
        if not method.is_infrastructure:
            self._around.lifecycle.leave()
        code = self._code(ended_by)
        seconds = time.perf_counter() - self._started
        method.metrics.handled(code, seconds)
        level = logging.DEBUG if code is grpc.StatusCode.OK or method.is_infrastructure else logging.INFO
        if log.isEnabledFor(level):
            log.log(level, "call finished", extra={"code": _name(code), "seconds": round(seconds, 6)})

    def _code(self, ended_by: BaseException | None) -> Any:
        if ended_by is None:
            return self._context.code() or grpc.StatusCode.OK  # 0 is what a fresh context says
        if isinstance(ended_by, asyncio.CancelledError | GeneratorExit):
            return grpc.StatusCode.DEADLINE_EXCEEDED if self._is_late() else grpc.StatusCode.CANCELLED
        return self._context.code() if isinstance(ended_by, grpc.aio.AbortError) else grpc.StatusCode.UNKNOWN

    def _is_late(self) -> bool:
        remaining = self._context.time_remaining()
        return remaining is not None and remaining <= 0

    def _sent(self, key: str) -> str:
        """The caller's metadata under a key; "" for none. Of several the last counts."""
        found = ""
        for name, value in self._context.invocation_metadata() or ():
            if name == key and isinstance(value, str):
                found = value
        return found


class _Readable:
    """A client's stream that raises InvalidInput at a message that cannot be read."""

    def __init__(self, requests: Any) -> None:
        self._requests = requests

    def __aiter__(self) -> _Readable:
        return self

    async def __anext__(self) -> Any:
        # aiter here, at the first read: gRPC's iterator complains when it is made and never read.
        return _well_formed(await anext(aiter(self._requests)))


class _Malformed:
    """In place of a request that is not a message. Raised from a deserializer it would end as UNKNOWN."""

    def __init__(self, why: str) -> None:
        self.why = why


def _forgiving(deserializer: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserializer is None:
        return None

    def read(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError as error:
            return _Malformed(str(error))

    return read


def _well_formed(request: Any) -> Any:
    if isinstance(request, _Malformed):
        raise InvalidInput(
            f"the request is not a message of this method: {request.why}",
            reason="BAD_MESSAGE",
            fix="build it with the generated classes; messages may be nested 100 levels deep",
        )
    return request


def _check_token(given: str, expected: bytes) -> None:
    if not hmac.compare_digest(given.encode(), expected):
        raise Unauthenticated(
            f"the bearer token {'is wrong' if given else 'is missing'}",
            reason="BAD_TOKEN" if given else "NO_TOKEN",
            fix="send the token that the server was started with",
        )


def _shown(error: Exception, service: str) -> GandtError:
    """What the caller may know of an error. The one place that turns a bug into a status."""
    if isinstance(error, GandtError):
        return error
    trace_id = request_ids.new_id()
    log.error("unexpected error", exc_info=error, extra={"trace_id": trace_id})
    return GandtError(
        f"{service} failed on an unexpected error, logged as {trace_id}",
        fix="look for that id in the service's log",
        metadata={"trace_id": trace_id},
    )


async def _abort(context: Any, error: GandtError, service: str) -> None:
    status = errors.to_status(error, service)
    trailing = (
        (request_ids.HEADER, request_ids.CURRENT.get()),
        (errors.DETAILS_KEY, status.SerializeToString()),
    )
    await context.abort(errors.code_of(error), status.message, trailing)


_KINDS = {
    "unary_unary": "unary",
    "stream_unary": "client_stream",
    "unary_stream": "server_stream",
    "stream_stream": "bidi_stream",
}  # what the metrics call them


def _shape(handler: Any) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"


def _name(code: Any) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else str(code)
