# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens around every RPC: count it, translate its errors, ask for the token, watch the time.

Each concern is one async context manager around the handler; `Around` applies it to all
four kinds of RPC. Outermost first: metrics, errors, auth, deadline, so that refusals are
translated and counted like everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import structlog

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, Unauthenticated
from gandt.runtime.lifecycle import Lifecycle, State
from gandt.runtime.metrics import RpcMetrics
from gandt.wire import errors, request_ids

log = logging.getLogger(__name__)

HEALTH = "grpc.health.v1.Health"
_OURS_NOT = (HEALTH, "grpc.reflection.v1alpha.ServerReflection", "grpc.reflection.v1.ServerReflection")


@dataclass(frozen=True)
class Method:
    """One RPC as the metrics name it.

    Args:
        service: full proto service name.
        name: method name.
        kind: unary, client_stream, server_stream or bidi_stream.
        metadata: what the caller sent, text values only.
    """

    service: str
    name: str
    kind: str
    metadata: dict[str, str]

    @property
    def is_infrastructure(self) -> bool:
        """Health and reflection: always answered, never drained for."""
        return self.service in _OURS_NOT


Concern = Callable[[Method, Any], AbstractAsyncContextManager[None]]


class Around(grpc.aio.ServerInterceptor):
    """Puts a concern around every handler."""

    def __init__(self, concern: Concern) -> None:
        self._concern = concern

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Wraps the handler that the continuation finds; an unknown method stays unknown."""
        handler = await continuation(details)
        if handler is None:
            return None
        method = _method(details, handler)
        inner = _behavior(handler)

        async def unary(request: Any, context: Any) -> Any:
            async with self._concern(method, context):
                return await inner(request, context)

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            async with self._concern(method, context):
                responses = inner(request, context)
                if inspect.isawaitable(responses):  # a handler that writes to the context itself
                    await responses
                    return
                async with contextlib.aclosing(responses):
                    async for response in responses:
                        yield response

        make = getattr(grpc, f"{_shape(handler)}_rpc_method_handler")
        return make(
            stream if handler.response_streaming else unary,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def interceptors(service: str, lifecycle: Lifecycle, metrics: RpcMetrics, token: str | None) -> list[Around]:
    """The chain of a server, outermost first.

    Args:
        service: short name of the service, for error domains.
        lifecycle: counts running calls and says when calls are let in.
        metrics: where calls are counted.
        token: bearer token that calls must carry; None asks for none.
    """
    return [
        Around(_counted(lifecycle, metrics)),
        Around(_translated(service)),
        Around(_authenticated(token)),
        Around(_in_time(lifecycle, service)),
    ]


def _counted(lifecycle: Lifecycle, metrics: RpcMetrics) -> Concern:
    @asynccontextmanager
    async def concern(method: Method, context: Any) -> AsyncIterator[None]:
        request_id = request_ids.accept(method.metadata.get(request_ids.HEADER, ""))
        request_ids.CURRENT.set(request_id)
        structlog.contextvars.bind_contextvars(method=f"{method.service}/{method.name}")
        context.set_trailing_metadata(((request_ids.HEADER, request_id),))
        started = time.perf_counter()
        metrics.started(method.kind, method.service, method.name)
        if not method.is_infrastructure:
            lifecycle.enter()
        code = grpc.StatusCode.UNKNOWN
        try:
            yield
            code = context.code() or grpc.StatusCode.OK
            code = grpc.StatusCode.OK if code == 0 else code
        except (asyncio.CancelledError, GeneratorExit):
            code = grpc.StatusCode.CANCELLED
            remaining = context.time_remaining()
            if remaining is not None and remaining <= 0:
                code = grpc.StatusCode.DEADLINE_EXCEEDED
            raise
        except grpc.aio.AbortError:
            code = context.code()
            raise
        finally:
            if not method.is_infrastructure:
                lifecycle.leave()
            seconds = time.perf_counter() - started
            metrics.handled(method.kind, method.service, method.name, code, seconds)
            level = logging.DEBUG if code is grpc.StatusCode.OK or method.is_infrastructure else logging.INFO
            log.log(level, "call finished", extra={"code": _name(code), "seconds": round(seconds, 6)})

    return concern


def _translated(service: str) -> Concern:
    @asynccontextmanager
    async def concern(_: Method, context: Any) -> AsyncIterator[None]:
        try:
            yield
        except GandtError as error:
            await _abort(context, error, service)
        except (grpc.aio.AbortError, grpc.aio.UsageError):
            raise
        except Exception as error:  # the one place that turns a bug into a status
            trace_id = request_ids.new_id()
            log.error("unexpected error", exc_info=error, extra={"trace_id": trace_id})
            hidden = GandtError(
                f"{service} failed on an unexpected error, logged as {trace_id}",
                fix="look for that id in the service's log",
                metadata={"trace_id": trace_id},
            )
            await _abort(context, hidden, service)

    return concern


def _authenticated(token: str | None) -> Concern:
    expected = None if token is None else f"Bearer {token}".encode()

    @asynccontextmanager
    async def concern(method: Method, _: Any) -> AsyncIterator[None]:
        if expected is not None and method.service != HEALTH:
            given = method.metadata.get("authorization", "")
            if not hmac.compare_digest(given.encode(), expected):
                what = "is wrong" if given else "is missing"
                raise Unauthenticated(
                    f"the bearer token {what}",
                    reason="BAD_TOKEN" if given else "NO_TOKEN",
                    fix="send the token that the server was started with",
                )
        yield

    return concern


def _in_time(lifecycle: Lifecycle, service: str) -> Concern:
    @asynccontextmanager
    async def concern(method: Method, context: Any) -> AsyncIterator[None]:
        if not method.is_infrastructure and lifecycle.state is not State.SERVING:
            raise BackendUnavailable(
                f"the {service} service is {lifecycle.state.value}",
                backend=service,
                reason="WARMING_UP" if lifecycle.state is State.WARMING else "SHUTTING_DOWN",
                fix="call again in a moment",
            )
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the call arrived after its deadline")
        yield

    return concern


async def _abort(context: Any, error: GandtError, service: str) -> None:
    status = errors.to_status(error, service)
    trailing = (
        (request_ids.HEADER, request_ids.CURRENT.get()),
        (errors.DETAILS_KEY, status.SerializeToString()),
    )
    await context.abort(errors.code_of(error), status.message, trailing)


def _method(details: Any, handler: Any) -> Method:
    _, service, name = details.method.rsplit("/", 2)
    kind = {
        (False, False): "unary",
        (True, False): "client_stream",
        (False, True): "server_stream",
        (True, True): "bidi_stream",
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    metadata = {key: value for key, value in details.invocation_metadata or () if isinstance(value, str)}
    return Method(service, name, kind, metadata)


def _shape(handler: Any) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"


def _behavior(handler: Any) -> Callable[[Any, Any], Any]:
    behavior: Callable[[Any, Any], Any] = getattr(handler, _shape(handler))
    return behavior


def _name(code: Any) -> str:
    return code.name if isinstance(code, grpc.StatusCode) else str(code)
