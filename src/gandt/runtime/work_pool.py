# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs synchronous use cases for asynchronous servicers, so that the event loop never waits.

Unary calls share a few worker threads with a bounded queue in front; when it is full the
caller is told when to come back. A streaming call holds a thread of its own while it
lasts, from a second, wider pool, so that a handful of watchers cannot starve everything
else. Messages cross between loop and thread one at a time with a small buffer, so a slow
reader slows the producer down. When the caller goes away, the call's deadline raises, its
request iterator ends and its response generator is closed.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import grpc.aio

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, Overloaded
from gandt.ports.clock import Deadline

P = ParamSpec("P")
Q = TypeVar("Q")
R = TypeVar("R")

_BUFFERED_MESSAGES = 4  # responses on their way to the loop; more would only hide a slow reader
_NO_LIMIT_SECONDS = 10 * 365 * 86400.0  # grpc reports "no deadline" as a very large remaining time
_BREAK_OFF_SECONDS = 0.03  # measured: 0.2 ms, 6 ms on a busy machine
_END = object()


class _Call:
    """What a thread must know of the call it works for. It is the Deadline port as well."""

    def __init__(self, context: Any, stop_at_drain: threading.Event | None = None) -> None:
        remaining = context.time_remaining()
        limited = remaining is not None and remaining < _NO_LIMIT_SECONDS
        self._ends_at = time.monotonic() + remaining if limited else None
        self._gone = False
        self._stop_at_drain = stop_at_drain
        self._on_leave: list[Callable[[], Any]] = []
        context.add_done_callback(lambda _: self.leave())

    def leave(self) -> None:
        """Marks the caller as gone (or the call as finished) and wakes who waits for it."""
        self._gone = True
        for wake in list(self._on_leave):
            wake()

    def on_leave(self, wake: Callable[[], Any]) -> None:
        """Runs `wake` when the caller leaves; at once if it has left."""
        self._on_leave.append(wake)
        if self._gone:
            wake()

    @property
    def is_gone(self) -> bool:
        return self._gone

    def remaining(self) -> float | None:
        """Seconds left, as in the Deadline port."""
        return None if self._ends_at is None else max(0.0, self._ends_at - time.monotonic())

    def check(self) -> None:
        """As in the Deadline port; also ends a watching stream when the server drains."""
        if self.is_gone:
            raise DeadlineExceeded("the caller went away before the work was done", reason="CALL_CANCELLED")
        if self.remaining() == 0.0:
            raise DeadlineExceeded("no time is left for this call", fix="give the call more time or ask for less")
        if self._stop_at_drain is not None and self._stop_at_drain.is_set():
            raise BackendUnavailable("the server is shutting down", reason="SHUTTING_DOWN", fix="call again")


class WorkPool:
    """Two bounded groups of threads for one service.

    Args:
        workers: threads for unary calls and client streams, at least 1.
        streams: threads for calls that stream answers, at least 1.
        queue: unary calls that may wait for a worker before new ones are refused.
        name: prefix of the thread names.
    """

    def __init__(self, workers: int = 8, streams: int = 64, queue: int = 256, name: str = "gandt") -> None:
        self._workers = ThreadPoolExecutor(workers, f"{name}-worker")
        self._streams = ThreadPoolExecutor(streams, f"{name}-stream")
        self._free = {self._workers: workers + queue, self._streams: streams}
        self._lock = threading.Lock()
        self._draining = threading.Event()

    def deadline(self, context: Any, *, stop_at_drain: bool = False) -> Deadline:
        """The caller's deadline, safe to ask from any thread.

        Args:
            context: the servicer's context.
            stop_at_drain: for streams that only watch: `check` raises BackendUnavailable when the server
                begins to drain, so that they do not hold up the shutdown.
        """
        return _Call(context, self._draining if stop_at_drain else None)

    async def call(self, context: Any, fn: Callable[..., R], *args: Any) -> R:
        """Runs `fn(*args)` in a worker thread and returns its result.

        Raises:
            Overloaded: all workers are busy and the queue is full.
        """
        return await self._submit(self._workers, _Call(context), fn, *args)

    def submit(self, fn: Callable[..., R], *args: Any) -> concurrent.futures.Future[R]:
        """Runs `fn(*args)` in a worker thread, for work that is not of one call alone.

        Raises:
            Overloaded: all workers are busy and the queue is full.
        """
        return self._start(self._workers, fn, *args)

    async def consume(self, context: Any, requests: AsyncIterator[Q], fn: Callable[..., R], *args: Any) -> R:
        """Runs `fn(requests, *args)` in a worker thread; it reads the client's stream as an iterator."""
        call = _Call(context)
        return await self._submit(self._workers, call, fn, self._pull(call, requests), *args)

    def stream(self, context: Any, fn: Callable[..., Iterator[R]], *args: Any) -> AsyncIterator[R]:
        """Runs the generator function `fn(*args)` in a thread of its own and yields what it yields."""
        return self._responses(_Call(context), fn, *args)

    def duplex(
        self,
        context: Any,
        requests: AsyncIterator[Q],
        fn: Callable[..., Iterator[R]],
        *args: Any,
        tell_broken_off: bool = True,
    ) -> AsyncIterator[R]:
        """As `stream`, for `fn(requests, *args)` that also reads the client's stream.

        Args:
            tell_broken_off: whether a stream that broke off must not look finished to `fn`; telling takes 30 ms at
                each end, which a function whose work is done with each message can spare.
        """
        call = _Call(context)
        return self._responses(call, fn, self._pull(call, requests, tell_broken_off), *args)

    def drain(self) -> None:
        """Ends the streams that only watch; everything else goes on."""
        self._draining.set()

    def close(self, seconds: float = 0.0) -> bool:
        """Takes no more work and waits for the threads.

        Returns:
            False when a thread was still busy after `seconds`.
        """
        ends_at = time.monotonic() + seconds
        for executor in (self._workers, self._streams):
            executor.shutdown(wait=False, cancel_futures=True)
        threads = [*self._workers._threads, *self._streams._threads]
        for thread in threads:
            thread.join(max(0.0, ends_at - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    async def run(self, fn: Callable[[], R]) -> R:
        """Runs the runtime's own work (warm-up) in a worker, outside of any call."""
        return await asyncio.get_running_loop().run_in_executor(self._workers, fn)

    # ---- between loop and thread ----

    async def _submit(self, executor: ThreadPoolExecutor, call: _Call, fn: Callable[..., R], *args: Any) -> R:
        try:
            return await asyncio.wrap_future(self._start(executor, fn, *args))
        finally:
            call.leave()

    async def _responses(self, call: _Call, fn: Callable[..., Iterator[R]], *args: Any) -> AsyncIterator[R]:
        loop = asyncio.get_running_loop()
        ready: asyncio.Queue[Any] = asyncio.Queue()
        free = threading.Semaphore(_BUFFERED_MESSAGES)
        call.on_leave(free.release)

        def produce() -> None:
            # closing: the use case's `finally` blocks run in its own thread, at the yield where it stood.
            with contextlib.closing(fn(*args)) as responses:  # type: ignore[type-var]
                for response in responses:
                    free.acquire()
                    if call.is_gone:
                        return
                    loop.call_soon_threadsafe(ready.put_nowait, response)

        future = self._start(self._streams, produce)
        future.add_done_callback(lambda _: on_loop(loop, ready.put_nowait, _END))
        try:
            while (response := await ready.get()) is not _END:
                yield response
                free.release()
            await asyncio.wrap_future(future)
        finally:
            call.leave()

    def _pull(self, call: _Call, requests: AsyncIterator[Q], tell_broken_off: bool = True) -> Iterator[Q]:
        """The client's stream for a thread: each `next` asks the loop for one message."""
        loop = asyncio.get_running_loop()
        left = asyncio.Event()
        call.on_leave(lambda: on_loop(loop, left.set))

        async def next_message() -> Any:
            # aiter here, at the first read: gRPC's iterator complains when it is made and never read.
            message = await anext(aiter(requests), _END)
            if message is _END and tell_broken_off:
                # gRPC reports a killed client as a plain end, and as cancelled only a moment later.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(left.wait(), _BREAK_OFF_SECONDS)
            return message

        def iterate() -> Iterator[Q]:
            # Reading ends by itself when the caller leaves: gRPC completes the read, a closing loop cancels it.
            while not call.is_gone:
                try:
                    message = asyncio.run_coroutine_threadsafe(next_message(), loop).result()
                except (concurrent.futures.CancelledError, grpc.aio.AbortError):  # the latter: we ended the call
                    call.leave()
                    break
                if message is _END:
                    break
                yield message
            # A stream that broke off must not look like one that was finished.
            if call.is_gone:
                call.check()

        return iterate()

    def _start(self, executor: ThreadPoolExecutor, fn: Callable[..., R], *args: Any) -> concurrent.futures.Future[R]:
        """Hands work to a thread. A place is taken until the thread is done, even when the caller leaves earlier."""
        with self._lock:
            if self._free[executor] <= 0:
                raise Overloaded("the server is at its limit and its queue is full", reason="QUEUE_FULL")
            self._free[executor] -= 1
        try:
            # The thread works in the call's context, so its log lines and its own calls carry the request id.
            future = executor.submit(contextvars.copy_context().run, fn, *args)
        except RuntimeError as error:
            self._give_back(executor)
            raise BackendUnavailable("the server is shutting down", reason="SHUTTING_DOWN", fix="call again") from error
        future.add_done_callback(lambda _: self._give_back(executor))
        return future

    def _give_back(self, executor: ThreadPoolExecutor) -> None:
        with self._lock:
            self._free[executor] += 1


def on_loop(loop: asyncio.AbstractEventLoop, fn: Callable[..., Any], *args: Any) -> None:
    """Runs `fn(*args)` on the loop, from any thread; does nothing when the loop is closed."""
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(fn, *args)
