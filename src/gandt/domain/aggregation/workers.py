# SPDX-License-Identifier: GPL-3.0-or-later
"""The report on workers: nobody is left out of it, and nobody is judged on too few answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.answer_table import ANSWERED, AnswerTable
from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.aggregation.records import IMAGE_MODEL, AggregateSpec, Verdict, WorkerReport
from gandt.domain.aggregation.reliability import Reliability
from gandt.domain.aggregation.votes import Votes

TOO_FAST = 0.2  # of the typical worker's median time; of careful people's answers about 2 % are faster
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
    too_fast: NDArray[np.float64] | None = None,
) -> Iterator[WorkerReport]:
    """One record a worker, by id; the image model, if any, comes last.

    Args:
        names: W ids, or those of all but the image model.
        given: i64[W] votes counted.
        accuracy, confusion: the method's estimates, or None.
        one_label: f64[W] from `one_label_shares`, or None.
        too_fast: f64[people] from `too_fast_shares`, or None.
    """
    low, high = wilson_interval(measured.agreed, measured.scored)
    estimated = None if accuracy is None else wilson_interval(accuracy * given, given)
    value = measured.value()
    sent = confusion if confusion is not None and confusion.shape[1] <= MAX_REPORTED_CLASSES else None
    for w in range(len(given)):
        person = w < len(names)
        golden = float(measured.gold_given[w])
        rated = accuracy is not None and given[w] > 0 and not np.isnan(accuracy[w])  # one class tells nobody apart
        yield WorkerReport(
            worker_id=names[w] if person else IMAGE_MODEL,
            answers=int(given[w]),
            reliability=float(value[w]) if measured.scored[w] > 0 else None,
            low=float(low[w]),
            high=float(high[w]),
            gold_accuracy=float(measured.gold_right[w]) / golden if golden else None,
            gold_answers=int(golden),
            verdict=judged[w],
            estimated_accuracy=float(accuracy[w]) if accuracy is not None and rated else None,
            confusion=None if sent is None or not given[w] else sent[w],
            one_label_share=float(one_label[w]) if one_label is not None and given[w] > 0 else None,
            spammer_score=None if confusion is None or not given[w] else spammer_score(confusion[w]),
            estimated_low=0.0 if estimated is None or not rated else float(estimated[0][w]),
            estimated_high=1.0 if estimated is None or not rated else float(estimated[1][w]),
            too_fast_share=None if too_fast is None or not person or np.isnan(too_fast[w]) else float(too_fast[w]),
            image_model=not person,
        )


def one_label_shares(votes: Votes) -> NDArray[np.float64]:
    """f64[W]: share of a worker's votes that gave his commonest label; 0 without a vote."""
    place = votes.worker.astype(np.int64) * max(votes.classes, 1) + votes.label
    pairs, counts = np.unique(place, return_counts=True)
    most = np.zeros(votes.workers)
    np.maximum.at(most, pairs // max(votes.classes, 1), counts)
    shares: NDArray[np.float64] = most / np.maximum(np.bincount(votes.worker, minlength=votes.workers), 1)
    return shares


def too_fast_shares(table: AnswerTable, rank: NDArray[np.int32]) -> NDArray[np.float64] | None:
    """f64[W]: share of a worker's timed answers that took less than `TOO_FAST` of the typical worker's median time.

    Typical is the median over workers of their median times, so that a robot with many answers does not move it.

    Args:
        rank: i32 number in the report of each worker of the table.
    Returns:
        NaN for a worker without timed answers; None when there are no times at all.
    """
    if table.seconds is None:
        return None
    timed = np.flatnonzero((table.seconds >= 0) & (table.state == ANSWERED))
    worker, seconds = rank[table.worker[timed]], table.seconds[timed].astype(np.float64)
    order = np.lexsort((seconds, worker))
    counts = np.bincount(worker, minlength=len(rank))
    if not len(timed):
        return None
    starts = np.cumsum(counts) - counts
    some = counts > 0
    ordered = seconds[order]
    middle = (ordered[(starts + (counts - 1) // 2)[some]] + ordered[(starts + counts // 2)[some]]) / 2
    fast = np.bincount(worker, weights=seconds < TOO_FAST * np.median(middle), minlength=len(rank))
    return np.where(some, fast / np.maximum(counts, 1), np.nan)


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
