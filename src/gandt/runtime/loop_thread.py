# SPDX-License-Identifier: GPL-3.0-or-later
"""One event loop in a background thread, shared by all servers that run inside somebody's process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class LoopThread:
    """Runs coroutines for synchronous callers.

    grpc.aio polls one queue for the whole process; several loops wake each other for
    nothing and log errors about it. So there is one, counted by its users.
    """

    _lock = threading.Lock()
    _shared: LoopThread | None = None

    def __init__(self) -> None:
        self._users = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gandt-loop", daemon=True)
        self._thread.start()

    @classmethod
    def acquire(cls) -> LoopThread:
        """The shared loop, started by its first user."""
        with cls._lock:
            if cls._shared is None:
                cls._shared = cls()
            cls._shared._users += 1
            return cls._shared

    def release(self) -> None:
        """Gives it back; the last user stops it."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            type(self)._shared = None
        self.run(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Waits for a coroutine on the loop; never call it from the loop itself."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the event loop cannot wait for itself; call this from a worker")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _finish(self) -> None:
        """Lets tasks and generators that were cancelled end before the loop goes."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
        await self._loop.shutdown_default_executor()
