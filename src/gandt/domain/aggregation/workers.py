# SPDX-License-Identifier: GPL-3.0-or-later
"""The report on workers: nobody is left out of it, and nobody is judged on too few answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.aggregation.records import AggregateSpec, Verdict, WorkerReport
from gandt.domain.aggregation.reliability import Reliability
from gandt.domain.aggregation.votes import Votes

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
    one_label: NDArray[np.float64] | None = None,
) -> Iterator[WorkerReport]:
    """One record a worker, by id.

    Args:
        given: i64[W] votes counted.
        accuracy, confusion: the method's estimates, or None.
        one_label: f64[W] from `one_label_shares`, or None.
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
            one_label_share=float(one_label[w]) if one_label is not None and given[w] > 0 else None,
            spammer_score=None if confusion is None or not given[w] else spammer_score(confusion[w]),
        )


def one_label_shares(votes: Votes) -> NDArray[np.float64]:
    """f64[W]: share of a worker's votes that gave his commonest label; 0 without a vote."""
    place = votes.worker.astype(np.int64) * max(votes.classes, 1) + votes.label
    pairs, counts = np.unique(place, return_counts=True)
    most = np.zeros(votes.workers)
    np.maximum.at(most, pairs // max(votes.classes, 1), counts)
    shares: NDArray[np.float64] = most / np.maximum(np.bincount(votes.worker, minlength=votes.workers), 1)
    return shares


def spammer_score(confusion: NDArray[np.float64]) -> float | None:
    """Mean squared distance between the rows of f64[K, K], in [0, 1]; 0 when answers do not depend on the truth.

    Source:
        V. C. Raykar and S. Yu 2012, "Eliminating Spammers and Ranking Annotators".
    """
    classes = len(confusion)
    if classes < 2:
        return None
    spread = classes * float((confusion**2).sum()) - float((confusion.sum(axis=0) ** 2).sum())
    return min(max(spread / (classes * (classes - 1)), 0.0), 1.0)
