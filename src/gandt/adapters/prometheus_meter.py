# SPDX-License-Identifier: GPL-3.0-or-later
"""The Meter port on prometheus_client, one registry a service."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gandt.ports.meter import Metric


class PrometheusMeter:
    """Reports into a registry that the runtime shows under `/metrics`.

    Args:
        metrics: everything the service will report. A name that is not here is a bug and raises KeyError.
        registry: where to register; a fresh one by default. Hand it to `Application(registry=...)`.
    """

    def __init__(self, metrics: Iterable[Metric], registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        self._labeled: dict[tuple[str, ...], Histogram] = {}  # finding one by its labels costs more than observing
        for metric in metrics:
            self._declare(metric)

    def _declare(self, metric: Metric) -> None:
        if metric.kind == "counter":
            self._counters[metric.name] = Counter(metric.name, metric.help, metric.labels, registry=self.registry)
        elif metric.kind == "gauge":
            self._gauges[metric.name] = Gauge(metric.name, metric.help, metric.labels, registry=self.registry)
        else:
            self._histograms[metric.name] = Histogram(
                metric.name, metric.help, metric.labels, registry=self.registry, buckets=metric.buckets
            )

    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        """Adds to a declared counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def set_level(self, name: str, value: float, /, **labels: str) -> None:
        """Sets a declared gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def observe(self, name: str, value: float, /, **labels: str) -> None:
        """Adds one value to a declared histogram."""
        key = (name, *labels, *labels.values())
        histogram = self._labeled.get(key)
        if histogram is None:
            histogram = self._histograms[name]
            histogram = self._labeled[key] = histogram.labels(**labels) if labels else histogram
        histogram.observe(value)
