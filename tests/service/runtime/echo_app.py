# SPDX-License-Identifier: GPL-3.0-or-later
"""A tiny gRPC service of raw bytes, in this process or as one of its own (`python echo_app.py`)."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from pydantic_settings import SettingsConfigDict

from gandt.domain import errors
from gandt.ports.clock import Deadline
from gandt.runtime.application import Application
from gandt.runtime.server import serve
from gandt.runtime.service_settings import ServiceSettings
from gandt.runtime.work_pool import WorkPool
from gandt.wire import request_ids

SERVICE = "gandt.echo.v1.EchoService"
log = logging.getLogger("gandt.echo")


class EchoService:
    """Synchronous use cases, as every service has them."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.ended: list[str] = []
        self.started = threading.Semaphore(0)
        self.closed = 0
        self.produced = 0
        self.raises: Callable[[], None] | None = None

    def echo(self, request: bytes) -> bytes:
        log.info("echoing", extra={"size": len(request)})
        return request

    def whoami(self, _: bytes) -> bytes:
        return request_ids.CURRENT.get().encode()

    def block(self, _: bytes, deadline: Deadline) -> bytes:
        self.started.release()
        try:
            while not self.release.wait(0.01):
                deadline.check()
        except errors.GandtError as error:
            self.ended.append(error.reason)
            raise
        self.ended.append("done")
        return b"done"

    def fail(self, _: bytes) -> bytes:
        assert self.raises is not None
        self.raises()
        return b""

    def count(self, request: bytes) -> Iterator[bytes]:
        try:
            for number in range(int(request)):
                self.produced = number
                yield b"%d" % number
        finally:
            self.ended.append("count")

    def watch(self, _: bytes, deadline: Deadline) -> Iterator[bytes]:
        yield b"first"
        while not self.release.wait(0.01):
            deadline.check()

    def double(self, requests: Iterator[bytes]) -> Iterator[bytes]:
        try:
            for request in requests:
                yield request + request
        finally:
            self.ended.append("double")

    def total(self, requests: Iterator[bytes]) -> bytes:
        try:
            answer = b"%d" % sum(self._number(request) for request in requests)
        except errors.GandtError as error:
            self.ended.append(error.reason)
            raise
        self.ended.append("total")
        return answer

    def _number(self, request: bytes) -> int:
        self.started.release()
        return int(request)

    def close(self) -> None:
        self.closed += 1


class EchoServicer:
    """Thin coroutines over a work pool."""

    def __init__(self, service: EchoService, pool: WorkPool) -> None:
        self.service = service
        self.pool = pool

    async def Echo(self, request: bytes, context: Any) -> bytes:
        return await self.pool.call(context, self.service.echo, request)

    async def WhoAmI(self, request: bytes, context: Any) -> bytes:
        return await self.pool.call(context, self.service.whoami, request)

    async def Block(self, request: bytes, context: Any) -> bytes:
        return await self.pool.call(context, self.service.block, request, self.pool.deadline(context))

    async def Fail(self, request: bytes, context: Any) -> bytes:
        return await self.pool.call(context, self.service.fail, request)

    def Count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        return self.pool.stream(context, self.service.count, request)

    def Watch(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        return self.pool.stream(context, self.service.watch, request, self.pool.deadline(context, stop_at_drain=True))

    def Double(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        return self.pool.duplex(context, requests, self.service.double)

    async def Total(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await self.pool.consume(context, requests, self.service.total)


def application(service: EchoService) -> Application:
    """The service as an application named echo."""

    def register(server: grpc.aio.Server, pool: WorkPool) -> None:
        servicer = EchoServicer(service, pool)
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        handlers: dict[str, Any] = {
            "Echo": unary(servicer.Echo),
            "WhoAmI": unary(servicer.WhoAmI),
            "Block": unary(servicer.Block),
            "Fail": unary(servicer.Fail),
            "Count": stream(servicer.Count),
            "Watch": stream(servicer.Watch),
            "Double": grpc.stream_stream_rpc_method_handler(servicer.Double),
            "Total": grpc.stream_unary_rpc_method_handler(servicer.Total),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    return Application("echo", SERVICE, register, close=service.close)


class Settings(ServiceSettings):
    """GANDT_ECHO__<KEY>."""

    model_config = SettingsConfigDict(env_prefix="GANDT_ECHO__")


if __name__ == "__main__":

    def tell(addresses: Any) -> None:
        print(addresses["echo"].service, addresses["echo"].health, flush=True)  # noqa: T201

    sys.exit(serve(application(EchoService()), Settings(), tell))
