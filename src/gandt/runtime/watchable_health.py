# SPDX-License-Identifier: GPL-3.0-or-later
"""grpc.health.v1 whose watchers are let go when the server drains; the stock one holds them until it is killed."""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health, health_pb2

_LAST_WORD_SECONDS = 0.1  # for watchers to hear NOT_SERVING before their stream ends


class DrainingHealth(health.aio.HealthServicer):  # type: ignore[misc]
    """Health for one application; used on its own port and on the port for probes."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Streams the state until the server drains."""
        watching = asyncio.ensure_future(super().Watch(request, context))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait((watching, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    async def end_watches(self) -> None:
        """Ends all watches, a moment after the last state was told."""
        await asyncio.sleep(_LAST_WORD_SECONDS)
        self._ended.set()
