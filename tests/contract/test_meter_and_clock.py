# SPDX-License-Identifier: GPL-3.0-or-later
"""Meter and Clock: the real adapter and the fake behave alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from gandt.adapters.memory_clock import ManualClock, ManualDeadline, MemoryMeter
from gandt.adapters.prometheus_meter import PrometheusMeter
from gandt.adapters.system_clock import SystemClock
from gandt.domain.errors import DeadlineExceeded
from gandt.ports.clock import NO_DEADLINE, Clock
from gandt.ports.meter import Meter, Metric

METRICS = (
    Metric("gandt_toy_images_total", "counter", "Images seen.", ("result",)),
    Metric("gandt_toy_queue_items", "gauge", "Images waiting."),
    Metric("gandt_toy_stage_seconds", "histogram", "Seconds a stage.", ("stage",), buckets=(0.1, 1.0)),
)

Read = Callable[[str, dict[str, str]], float | None]


def _memory() -> tuple[Meter, Read]:
    meter = MemoryMeter()

    def read(name: str, labels: dict[str, str]) -> float:
        if name.endswith("_sum"):
            return sum(meter.observations(name.removesuffix("_sum"), **labels))
        if name.endswith("_count"):
            return len(meter.observations(name.removesuffix("_count"), **labels))
        return meter.value(name, **labels)

    return meter, read


def _prometheus() -> tuple[Meter, Read]:
    meter = PrometheusMeter(METRICS)
    return meter, meter.registry.get_sample_value


@pytest.mark.parametrize("make", [_memory, _prometheus])
def test_meter(make: Callable[[], tuple[Meter, Read]]) -> None:
    meter, read = make()
    meter.increment("gandt_toy_images_total", result="ok")
    meter.increment("gandt_toy_images_total", 2.0, result="ok")
    meter.increment("gandt_toy_images_total", result="bad")
    meter.set_level("gandt_toy_queue_items", 7)
    meter.set_level("gandt_toy_queue_items", 3)
    meter.observe("gandt_toy_stage_seconds", 0.5, stage="decode")
    meter.observe("gandt_toy_stage_seconds", 2.5, stage="decode")
    assert read("gandt_toy_images_total", {"result": "ok"}) == 3
    assert read("gandt_toy_images_total", {"result": "bad"}) == 1
    assert read("gandt_toy_queue_items", {}) == 3
    assert read("gandt_toy_stage_seconds_count", {"stage": "decode"}) == 2
    assert read("gandt_toy_stage_seconds_sum", {"stage": "decode"}) == 3.0


def test_a_metric_that_was_not_declared_is_a_bug() -> None:
    with pytest.raises(KeyError):
        PrometheusMeter(METRICS).increment("gandt_toy_imagse_total", result="ok")


@pytest.mark.parametrize("clock", [ManualClock(), SystemClock()], ids=lambda clock: type(clock).__name__)
def test_clock(clock: Clock) -> None:
    now, tick = clock.now(), clock.monotonic()
    assert now.tzinfo is UTC
    clock.sleep(0.01)
    clock.sleep(-1)
    assert clock.monotonic() - tick >= 0.009
    assert clock.now() - now >= timedelta(seconds=0.009)


def test_the_manual_clock_moves_by_hand() -> None:
    clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(60)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, tzinfo=UTC)


def test_deadlines() -> None:
    clock = ManualClock()
    deadline = ManualDeadline(clock, 10)
    clock.advance(4)
    deadline.check()
    assert deadline.remaining() == 6
    clock.advance(7)
    assert deadline.remaining() == 0
    with pytest.raises(DeadlineExceeded):
        deadline.check()
    endless = ManualDeadline(clock)
    assert endless.remaining() is None
    endless.cancel()
    with pytest.raises(DeadlineExceeded):
        endless.check()
    NO_DEADLINE.check()
    assert NO_DEADLINE.remaining() is None
