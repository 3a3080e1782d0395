# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC face of selection: messages in, use case, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from gandt.ports.clock import Deadline
from gandt.runtime.work_pool import WorkPool
from gandt.wire import selection as wire
from gandt.wire.selection import pb
from gandt_selection.service import Selection


class SelectionServicer(wire.Servicer):
    """Hands each call to a use case in a worker thread.

    Args:
        service: the use cases.
        pool: worker threads.
    """

    def __init__(self, service: Selection, pool: WorkPool) -> None:
        self._service = service
        self._pool = pool

    async def ListStrategies(self, request: pb.ListStrategiesRequest, context: Any) -> pb.ListStrategiesResponse:
        page, token = await self._pool.call(
            context, self._service.list_strategies, request.page_size, request.page_token
        )
        return pb.ListStrategiesResponse(
            strategies=[wire.strategy_message(info) for info in page], next_page_token=token
        )

    def Select(
        self, request_iterator: AsyncIterator[pb.SelectRequest], context: Any
    ) -> AsyncIterator[pb.SelectResponse]:
        return self._pool.duplex(context, request_iterator, self._select, self._pool.deadline(context))

    def _select(self, requests: Iterator[pb.SelectRequest], deadline: Deadline) -> Iterator[pb.SelectResponse]:
        spec = wire.select_spec(wire.opened(requests))
        for report in self._service.select(spec, wire.chunks(requests, spec.pool.inline_dim), deadline):
            yield from wire.select_responses(report)

    def Filter(
        self, request_iterator: AsyncIterator[pb.FilterRequest], context: Any
    ) -> AsyncIterator[pb.FilterResponse]:
        return self._pool.duplex(context, request_iterator, self._filter, self._pool.deadline(context))

    def _filter(self, requests: Iterator[pb.FilterRequest], deadline: Deadline) -> Iterator[pb.FilterResponse]:
        spec = wire.filter_spec(wire.opened(requests))
        for report in self._service.filter(spec, wire.chunks(requests, spec.pool.inline_dim), deadline):
            yield from wire.filter_responses(report)

    def Evaluate(
        self, request_iterator: AsyncIterator[pb.EvaluateRequest], context: Any
    ) -> AsyncIterator[pb.EvaluateResponse]:
        return self._pool.duplex(context, request_iterator, self._evaluate, self._pool.deadline(context))

    def _evaluate(self, requests: Iterator[pb.EvaluateRequest], deadline: Deadline) -> Iterator[pb.EvaluateResponse]:
        spec = wire.evaluate_spec(wire.opened(requests))
        for report in self._service.evaluate(spec, wire.chunks(requests, spec.pool.inline_dim), deadline):
            yield wire.evaluate_response(report)
