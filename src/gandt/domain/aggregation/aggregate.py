# SPDX-License-Identifier: GPL-3.0-or-later
"""From a table of answers to verdicts on images and workers: counts votes, fits the method, decides, reports."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation import methods, workers
from gandt.domain.aggregation.agreement import fit_agreement
from gandt.domain.aggregation.answer_table import AnswerTable
from gandt.domain.aggregation.consistency import measure_agreement
from gandt.domain.aggregation.decide import Decisions, decide, decide_sets
from gandt.domain.aggregation.model import Fit, FitOptions, shares
from gandt.domain.aggregation.one_coin import fit_one_coin
from gandt.domain.aggregation.records import (
    AUTO,
    AggregateSpec,
    AggregateSummary,
    ItemVerdict,
    Verdict,
    WorkerReport,
    counted,
)
from gandt.domain.aggregation.reliability import Reliability, measure, measure_sets
from gandt.domain.aggregation.votes import Ballot, SetVotes, Votes, count_votes

Check = Callable[[], None]
Gold = Mapping[str, Sequence[str]]
Warm = Mapping[str, NDArray[np.float64]]
"""Posteriors of an earlier fit by image, over the same label space."""


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The result, by column; `items()` and `workers()` give records.

    Attributes:
        order: i64[J] items that are shown, by first appearance of their images.
        posterior: f64[I, K] over all items.
    """

    images: Sequence[str]
    ballot: Ballot
    order: NDArray[np.int64]
    posterior: NDArray[np.float64]
    decisions: Decisions
    summary: AggregateSummary
    spec: AggregateSpec
    method: str
    reports: Sequence[WorkerReport]

    def items(self) -> Iterator[ItemVerdict]:
        """A verdict on every image that came in, by first appearance."""
        d, classes = self.decisions, np.array([*self.ballot.classes, ""], object)
        describe = self.method == "agreement"
        top = d.chosen.argmax(axis=1) if d.chosen.shape[1] else np.zeros(len(d.chosen), np.int64)
        several = d.chosen.sum(axis=1) != 1
        for i in self.order.tolist():
            labels = tuple(classes[np.flatnonzero(d.chosen[i])]) if several[i] else (classes[top[i]],)
            answers, agreeing = int(d.answers[i]), int(d.agreeing[i])
            yield ItemVerdict(
                image_id=self.images[self.ballot.item_image[i]],
                labels=labels,
                confidence=float(d.confidence[i]),
                status=d.status(i),
                answers=answers,
                agreeing=agreeing,
                posterior=tuple(self.posterior[i].tolist()) if self.spec.with_posteriors else (),
                description=", ".join(f"{label} ({agreeing} / {answers})" for label in labels) if describe else "",
                gold=bool(d.gold[i]),
            )


def aggregate(
    table: AnswerTable, spec: AggregateSpec, gold: Gold, check: Check, warm: Warm | None = None
) -> Aggregation:
    """Aggregates all answers.

    Args:
        table: all answers, also those of earlier jobs.
        spec: how; not in compat, which `compat.py` does.
        gold: known labels by image; images that nobody answered do no harm.
        check: called once an iteration; raises when nobody waits any more.
        warm: where to start the fit from.
    Returns:
        Every image of this call is among the items, whatever happened to its votes.
    Raises:
        InvalidInput: an unknown method, several labels where one is allowed, or a repeated answer that is forbidden.
    """
    ballot = count_votes(table, spec, gold)
    name, why = (spec.method, "as asked for") if spec.method != AUTO else methods.choose(ballot.votes)
    method = methods.find(name or AUTO, spec.multi_label)
    options = FitOptions(check, _start(ballot, table, warm))
    votes = ballot.votes
    given = np.bincount(votes.worker, minlength=votes.workers)
    fit, measured = _fit(votes, method, options)
    judged = workers.verdicts(given, measured, spec)
    kept = votes
    if method.filters:
        unreliable = np.array([verdict is Verdict.UNRELIABLE for verdict in judged], np.bool_)
        kept, fit = _without(votes, unreliable, method, options)
    if isinstance(kept, Votes):
        decisions = decide(kept, fit.posterior, spec)
    else:
        decisions = decide_sets(kept, fit.posterior, spec, method.by_share)
    order = np.flatnonzero(ballot.item_shown)
    order = order[np.argsort(ballot.item_image[order], kind="stable")]
    agreement = measure_agreement(votes)
    summary = AggregateSummary(
        method=name,
        explanation=why,
        classes=ballot.classes,
        images=len(order),
        answers=ballot.answers,
        repeated_answers=ballot.repeated,
        abstentions=ballot.abstentions,
        unreliable_answers=len(votes.item) - len(kept.item),
        iterations=fit.iterations,
        converged=fit.converged,
        alpha=agreement.alpha,
        raw_agreement=agreement.raw,
        warnings=(*ballot.notes, *_losses(ballot, decisions, order, judged, method.filters)),
    )
    one_label = workers.one_label_shares(votes) if isinstance(votes, Votes) else None
    reports = list(workers.report(ballot.worker_names, given, measured, judged, fit.accuracy, fit.confusion, one_label))
    return Aggregation(table.images, ballot, order, fit.posterior, decisions, summary, spec, name, reports)


def _fit(votes: Votes | SetVotes, method: methods.Method, options: FitOptions) -> tuple[Fit, Reliability]:
    """The method's fit of all votes, and how far each worker agrees with the others.

    Methods without a model of workers are judged by the simplest one.
    """
    if isinstance(votes, SetVotes):
        fit = _fit_labels(votes, method, options)
        judge = _fit_labels(votes, methods.METHODS["two-coin"], options) if method.by_share else fit
        return fit, measure_sets(votes, judge.posterior)
    assert method.fit is not None  # find() refuses methods for several labels
    fit = method.fit(votes, options)
    judge = fit_one_coin(votes, options) if fit.accuracy is None else fit
    assert judge.accuracy is not None  # one-coin always estimates it
    return fit, measure(votes, judge.accuracy)


def _without(
    votes: Votes | SetVotes, unreliable: NDArray[np.bool_], method: methods.Method, options: FitOptions
) -> tuple[Votes | SetVotes, Fit]:
    """The votes that are left without the unreliable workers, and their shares."""
    if isinstance(votes, Votes):
        return votes.without(unreliable), fit_agreement(votes, options, unreliable)
    rest = votes.without(unreliable)
    return rest, replace(_fit_labels(rest, method, options), left_out=unreliable)


def _start(ballot: Ballot, table: AnswerTable, warm: Warm | None) -> NDArray[np.float64] | None:
    """f64[I, K] shares of votes, replaced by earlier posteriors where there are any; None without."""
    votes = ballot.votes
    if not warm or not isinstance(votes, Votes):
        return None
    start = shares(votes)
    for item, image in enumerate(ballot.item_image.tolist()):
        known = warm.get(table.images[image]) if ballot.item_shown[item] else None
        if known is not None and len(known) == votes.classes:
            start[item] = known
    return start


def _fit_labels(votes: SetVotes, method: methods.Method, options: FitOptions) -> Fit:
    """Fits each label as its own yes-no question and puts the answers together."""
    posterior = np.zeros((votes.items, votes.classes))
    accuracy = np.zeros(votes.workers)
    iterations, converged, modeled = 0, True, True
    for label in range(votes.classes):
        fit = method.fit_label(votes.binary(label), replace(options, start=None))
        posterior[:, label] = fit.posterior[:, 1]
        iterations, converged = max(iterations, fit.iterations), converged and fit.converged
        if fit.accuracy is None:
            modeled = False
        else:
            accuracy += fit.accuracy / votes.classes
    return Fit(posterior, accuracy if modeled and votes.classes else None, None, iterations, converged)


def _losses(
    ballot: Ballot, decisions: Decisions, order: NDArray[np.int64], judged: Sequence[Verdict], filters: bool
) -> Iterator[str]:
    """Warnings about what did not count, in words."""
    if ballot.repeated:
        yield f"{counted(ballot.repeated, 'repeated answer')} of one worker to one image not counted"
    if filters:
        left_out = sum(verdict is Verdict.UNRELIABLE for verdict in judged)
        if left_out:
            yield f"the votes of {counted(left_out, 'unreliable worker')} were left out"
    unlabeled = int(decisions.unlabeled[order].sum())
    if unlabeled:
        yield f"{counted(unlabeled, 'image')} without a vote that counts, unlabeled"
