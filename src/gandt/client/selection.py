# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of the selection service: which images to label next, and which to leave."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import grpc

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import CorruptData
from gandt.domain.progress import Progress
from gandt.domain.selection.records import (
    DecisionBlock,
    EvaluateRun,
    EvaluateSpec,
    FilterSpec,
    FilterSummary,
    Pick,
    SelectResult,
    SelectSpec,
    SelectSummary,
    StrategyInfo,
)
from gandt.domain.vectors import VectorSet
from gandt.wire import selection as wire
from gandt.wire.selection import pb

T = TypeVar("T")
OnProgress = Callable[[Progress], None]
Vectors = VectorSet | Iterable[VectorSet] | None


def _silent(_: Progress) -> None:
    return None


class SelectionClient:
    """Calls a selection service; domain objects in and out, domain errors raised.

    Args:
        channel: as `gandt.client.connection.connect` gives it.
    """

    def __init__(self, channel: grpc.Channel) -> None:
        self._stub = wire.Stub(channel)

    def list_strategies(self) -> list[StrategyInfo]:
        """The strategies that the server offers, by name."""
        found: list[StrategyInfo] = []
        token = ""
        while True:
            page = self._stub.ListStrategies(pb.ListStrategiesRequest(page_token=token))
            found += [wire.strategy_info(strategy) for strategy in page.strategies]
            token = page.next_page_token
            if not token:
                return found

    def select(
        self,
        spec: SelectSpec,
        labeled: Iterable[LabeledImage] = (),
        excluded: Sequence[str] = (),
        groups: Mapping[str, str] | None = None,
        vectors: Vectors = None,
        on_progress: OnProgress = _silent,
        timeout: float | None = None,
    ) -> SelectResult:
        """Picks the images to label next.

        Args:
            spec: what to select and where the vectors are.
            labeled: images with known labels.
            excluded: images that must not be picked and do not count as pool (in flight, refused).
            groups: image id to near-duplicate group.
            vectors: of pool and labeled images alike, for an inline pool.
            on_progress: called with each report of progress.
            timeout: seconds; None waits as long as it takes.
        Raises:
            InvalidInput: a spec that can never work, or labels that the strategy cannot work with.
            NotFound: no such collection or file.
            WrongState: the vectors come from another model than the spec says.
        """
        following = wire.chunk_messages(labeled, excluded, groups or {}, _blocks(vectors))
        requests = _Requests(
            pb.SelectRequest(spec=wire.select_spec_message(spec)),
            (pb.SelectRequest(chunk=chunk) for chunk in following),
        )
        picks: list[Pick] = []
        summary: SelectSummary | None = None
        for message in requests.answered(lambda sent: self._stub.Select(sent, timeout=timeout)):
            report = wire.select_report(message)
            if isinstance(report, SelectSummary):
                summary = report  # and on to the end: leaving early would count as a cancelled call
            elif isinstance(report, Progress):
                on_progress(report)
            else:
                picks.extend(report)
        if summary is None:
            raise _cut_off("Select")
        return SelectResult(tuple(picks), summary)

    def filter(
        self,
        spec: FilterSpec,
        labeled: Iterable[LabeledImage],
        excluded: Sequence[str] = (),
        vectors: Vectors = None,
        on_progress: OnProgress = _silent,
        timeout: float | None = None,
    ) -> FilterStream:
        """Decides for each pool image; iterate over the result, then read its `summary`. Arguments as `select`.

        Raises:
            InvalidInput, NotFound, WrongState: as `select`, when the result is iterated.
        """
        following = wire.chunk_messages(labeled, excluded, {}, _blocks(vectors))
        requests = _Requests(
            pb.FilterRequest(spec=wire.filter_spec_message(spec)),
            (pb.FilterRequest(chunk=chunk) for chunk in following),
        )
        return FilterStream(requests.answered(lambda sent: self._stub.Filter(sent, timeout=timeout)), on_progress)

    def evaluate(
        self,
        spec: EvaluateSpec,
        labeled: Iterable[LabeledImage],
        vectors: Vectors = None,
        on_progress: OnProgress = _silent,
        timeout: float | None = None,
    ) -> Iterator[EvaluateRun]:
        """Replays strategies on images whose labels are all known, yielding runs as they finish.

        Args:
            labeled: every image with its true labels; images without a vector are left out.
        """
        following = wire.chunk_messages(labeled, (), {}, _blocks(vectors))
        requests = _Requests(
            pb.EvaluateRequest(spec=wire.evaluate_spec_message(spec)),
            (pb.EvaluateRequest(chunk=chunk) for chunk in following),
        )
        for message in requests.answered(lambda sent: self._stub.Evaluate(sent, timeout=timeout)):
            report = wire.evaluate_report(message)
            if isinstance(report, Progress):
                on_progress(report)
            else:
                yield report


class FilterStream:
    """Decisions as they arrive, and the summary after the last of them."""

    def __init__(self, responses: Iterator[pb.FilterResponse], on_progress: OnProgress) -> None:
        self._responses = responses
        self._on_progress = on_progress
        self._summary: FilterSummary | None = None

    def __iter__(self) -> Iterator[DecisionBlock]:
        """Blocks of decisions, in the order of the pool. Can be iterated once."""
        for message in self._responses:
            report = wire.filter_report(message)
            if isinstance(report, Progress):
                self._on_progress(report)
            elif isinstance(report, FilterSummary):
                self._summary = report
            else:
                yield report
        if self._summary is None:
            raise _cut_off("Filter")

    @property
    def summary(self) -> FilterSummary:
        """What the filter did; only after all decisions have been read."""
        if self._summary is None:
            raise RuntimeError("read all decisions before the summary")
        return self._summary


class _Requests(Iterator[Any]):
    """A request stream that keeps what went wrong while it was being made.

    gRPC reads it in a thread of its own and hides the error behind a cancelled call; the caller wants the error.
    """

    def __init__(self, first: Any, following: Iterator[Any]) -> None:
        self._first: Any = first
        self._following = following
        self._error: Exception | None = None

    def __next__(self) -> Any:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        try:
            return next(self._following)
        except StopIteration:
            raise
        except Exception as error:
            self._error = error
            raise

    def answered(self, call: Callable[[Iterator[Any]], Iterator[T]]) -> Iterator[T]:
        """The responses of a call that is made with these requests."""
        try:
            yield from call(self)
        except Exception:
            if self._error is not None:
                raise self._error from None
            raise


def _blocks(vectors: Vectors) -> Iterable[VectorSet]:
    return () if vectors is None else (vectors,) if isinstance(vectors, VectorSet) else vectors


def _cut_off(method: str) -> CorruptData:
    return CorruptData(
        f"{method} ended without a summary", kind="call", id=method, reason="INCOMPLETE_ANSWER", fix="call again"
    )
