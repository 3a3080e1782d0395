# SPDX-License-Identifier: GPL-3.0-or-later
"""The report on workers: nobody is left out of it, and nobody is judged on too few answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.aggregation.records import AggregateSpec, Verdict, WorkerReport
from gandt.domain.aggregation.reliability import Reliability

MAX_REPORTED_CLASSES = 64  # a confusion matrix above this is not sent: it would be megabytes a worker


def verdicts(given: NDArray[np.int64], measured: Reliability, spec: AggregateSpec) -> list[Verdict]:
    """One verdict a worker.

    A worker needs `min_worker_answers` votes, and half as many images that measure him; then he is reliable when his
    reliability exceeds the threshold.
    """
    value = measured.value()
    enough = (given >= spec.min_worker_answers) & (measured.scored * 2 >= spec.min_worker_answers)
    return [
        Verdict.UNKNOWN if not known else Verdict.RELIABLE if share > spec.reliability_threshold else Verdict.UNRELIABLE
        for known, share in zip(enough.tolist(), value.tolist(), strict=True)
    ]


def report(
    names: Sequence[str],
    given: NDArray[np.int64],
    measured: Reliability,
    judged: Sequence[Verdict],
    accuracy: NDArray[np.float64] | None,
    confusion: NDArray[np.float64] | None,
) -> Iterator[WorkerReport]:
    """One record a worker, by id.

    Args:
        given: i64[W] votes counted.
        accuracy, confusion: the method's estimates, or None.
    """
    low, high = wilson_interval(measured.agreed, measured.scored)
    value = measured.value()
    sent = confusion if confusion is not None and confusion.shape[1] <= MAX_REPORTED_CLASSES else None
    for w, name in enumerate(names):
        golden = float(measured.gold_given[w])
        yield WorkerReport(
            worker_id=name,
            answers=int(given[w]),
            reliability=float(value[w]) if measured.scored[w] > 0 else None,
            low=float(low[w]),
            high=float(high[w]),
            gold_accuracy=float(measured.gold_right[w]) / golden if golden else None,
            gold_answers=int(golden),
            verdict=judged[w],
            estimated_accuracy=float(accuracy[w]) if accuracy is not None and given[w] > 0 else None,
            confusion=None if sent is None or not given[w] else sent[w],
        )
