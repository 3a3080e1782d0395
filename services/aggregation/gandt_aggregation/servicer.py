# SPDX-License-Identifier: GPL-3.0-or-later
"""The gRPC face of the aggregation service: messages in, use case in a worker thread, messages out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from gandt.runtime.work_pool import WorkPool
from gandt.wire import aggregation as wire
from gandt.wire import aggregation_results as results
from gandt_aggregation.service import AggregationService


class AggregationServicer(wire.Servicer):
    """One coroutine a method.

    Args:
        service: the use cases.
        pool: runs them.
    """

    def __init__(self, service: AggregationService, pool: WorkPool) -> None:
        self._service = service
        self._pool = pool

    async def ListMethods(self, request: Any, context: Any) -> Any:
        """See the contract."""
        page, token = await self._pool.call(context, self._service.list_methods, request.page_size, request.page_token)
        return wire.methods_message(page, token)

    async def Aggregate(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """See the contract."""
        deadline = self._pool.deadline(context)

        def run(requests: Iterator[Any]) -> Iterator[Any]:
            for event in self._service.aggregate(wire.messages(requests), deadline):
                yield results.event_message(event)

        async for response in self._pool.duplex(context, request_iterator, run):
            yield response

    async def AggregateStored(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """See the contract."""
        deadline = self._pool.deadline(context)

        def run() -> Iterator[Any]:
            for event in self._service.aggregate_stored(
                wire.spec(request.spec),
                list(request.answers_uris),
                list(request.previous_uris),
                request.gold_uri,
                deadline,
                request.audit_uri,
                request.model_uri,
            ):
                yield results.stored_message(event)

        async for response in self._pool.stream(context, run):
            yield response

    async def MeasureAgreement(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        """See the contract."""
        deadline = self._pool.deadline(context)

        def run(requests: Iterator[Any]) -> Any:
            return results.agreement_message(self._service.measure_agreement(wire.messages(requests), deadline))

        return await self._pool.consume(context, request_iterator, run)

    async def PlanAnswers(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """See the contract."""
        deadline = self._pool.deadline(context)

        def run(requests: Iterator[Any]) -> Iterator[Any]:
            for part in self._service.plan_answers(wire.messages(requests), deadline):
                yield results.plan_message(part)

        async for response in self._pool.duplex(context, request_iterator, run):
            yield response
