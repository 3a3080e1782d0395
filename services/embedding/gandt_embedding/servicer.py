# SPDX-License-Identifier: GPL-3.0-or-later
"""EmbeddingService on the wire: message in, use case, message out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

from gandt.ports.clock import Deadline
from gandt.runtime.work_pool import WorkPool, on_loop
from gandt.wire import embedding as wire
from gandt_embedding.service import EmbeddingService


class EmbeddingServicer(wire.Servicer):
    """Hands calls to the service's threads."""

    def __init__(self, service: EmbeddingService, pool: WorkPool) -> None:
        self._service = service
        self._pool = pool

    async def GetModel(self, request: Any, context: Any) -> Any:
        """See the proto."""
        return wire.get_model_response(await self._pool.call(context, self._service.get_model, request.model_id))

    async def ListModels(self, request: Any, context: Any) -> Any:
        """See the proto."""
        models, token = await self._pool.call(context, self._service.list_models, request.page_size, request.page_token)
        return wire.list_models_response(models, token)

    async def Embed(self, request: Any, context: Any) -> Any:
        """See the proto."""
        images, model_id, dtype = wire.embed_request(request)
        info = self._service.expect(model_id)
        deadline = self._pool.deadline(context)
        # No thread waits with the call, so a call is refused at once however many wait.
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        call = self._service.begin(images, model_id, deadline, partial(on_loop, loop, done.set))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), deadline.remaining())
        return wire.embed_response(call.results(), info, dtype)

    def EmbedStream(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """See the proto."""
        reading = self._pool.deadline(context, stop_at_drain=True)
        return self._pool.duplex(context, request_iterator, self._embed_stream, self._pool.deadline(context), reading)

    def _embed_stream(self, requests: Iterator[Any], deadline: Deadline, reading: Deadline) -> Iterator[Any]:
        return wire.stream_responses(self._service.embed_stream(map(wire.stream_request, requests), deadline, reading))
