# SPDX-License-Identifier: GPL-3.0-or-later
"""From a table of answers to verdicts on images and workers: counts votes, fits the method, decides, reports."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation import methods, workers
from gandt.domain.aggregation.answer_table import AnswerTable
from gandt.domain.aggregation.audit_sample import Judged, audited, draw_order, spoken, uncounted, unheard
from gandt.domain.aggregation.calibration import calibrate, tempered
from gandt.domain.aggregation.consistency import measure_agreement
from gandt.domain.aggregation.decide import Decisions, decide, decide_sets
from gandt.domain.aggregation.incremental import SWEEPS, Warm
from gandt.domain.aggregation.model import Fit, FitOptions, clamp_gold
from gandt.domain.aggregation.model_worker import NO_VOTE, with_model
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
from gandt.domain.aggregation.trust import Audit, Calibration
from gandt.domain.aggregation.votes import NO_GOLD, Ballot, SetVotes, Votes, count_votes
from gandt.domain.errors import InvalidInput

Check = Callable[[], None]
Gold = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Beside:
    """What a caller knows beside answers and gold.

    Attributes:
        drawn: gold images that were drawn at random; only these calibrate.
        model: an image model's votes, as class names by image.
        judged: an expert's labels of the audit's images.
        warm: where an earlier fit of some of the answers ended.
    """

    drawn: Collection[str] = ()
    model: Mapping[str, str] = field(default_factory=dict)
    judged: Judged = field(default_factory=dict)
    warm: Warm | None = None


@dataclass(frozen=True, slots=True)
class Aggregation:
    """The result, by column; `items()` and `reports` give records.

    Attributes:
        order: i64[J] items that are shown, by first appearance of their images.
        posterior: f64[I, K] over all items.
        drawn: i64[A] items of the audit's sample, in its order.
        warm: where the fit ended, for a state.
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
    drawn: NDArray[np.int64]
    warm: Warm

    def items(self) -> Iterator[ItemVerdict]:
        """A verdict on every image that came in, by first appearance."""
        d = self.decisions
        describe = self.method == "agreement"
        place = np.zeros(len(d.gold), np.int64)
        place[self.drawn] = np.arange(1, len(self.drawn) + 1)
        for i, labels in zip(self.order.tolist(), _labels(self.ballot, d, self.order), strict=True):
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
                audit_place=int(place[i]),
            )


def _labels(ballot: Ballot, d: Decisions, order: NDArray[np.int64]) -> Iterator[tuple[str, ...]]:
    """The labels of each item, the tied ones where they are."""
    classes = np.array([*ballot.classes, ""], object)
    top = d.chosen.argmax(axis=1) if d.chosen.shape[1] else np.zeros(len(d.chosen), np.int64)
    several = d.chosen.sum(axis=1) != 1
    for i in order.tolist():
        yield tuple(classes[np.flatnonzero(d.chosen[i])]) if several[i] else (classes[top[i]],)


def aggregate(
    table: AnswerTable, spec: AggregateSpec, gold: Gold, check: Check, beside: Beside | None = None
) -> Aggregation:
    """Aggregates all answers.

    Args:
        table: all answers, also those of earlier jobs.
        spec: how; not in compat, which `compat.py` does.
        gold: known labels by image; images that nobody answered do no harm.
        check: called once an iteration; raises when nobody waits any more.
        beside: what else is known.
    Returns:
        Every image of this call is among the items, whatever happened to its votes.
    Raises:
        InvalidInput: an unknown method, several labels where one is allowed, or a repeated answer that is forbidden.
    """
    beside = beside or Beside()
    ballot = count_votes(table, spec, gold)
    name, why = (spec.method, "as asked for") if spec.method != AUTO else methods.choose(ballot.votes)
    method = methods.find(name or AUTO, spec.multi_label)
    notes = list(ballot.notes)
    votes = _with_model(ballot, table, beside.model, notes)
    given = np.bincount(votes.worker, minlength=votes.workers)
    options, fitted = FitOptions(check), len(votes.item)
    warm = beside.warm if method.resumes else None
    if warm is not None and warm.serves(name, ballot.classes, len(votes.item)):
        starts = warm.starts(ballot.item_image, ballot.item_shown)
        options = FitOptions(check, starts[0], starts if len(starts) > 1 else (), iterations=SWEEPS)
        fitted = warm.fitted
        why += f", from the state on by {counted(len(votes.item) - fitted, 'vote')}"
    fit, measured = _fit(votes, method, options)
    parts = fit.parts or (fit.posterior,)
    judged = workers.verdicts(given, measured, spec)
    kept = votes
    if method.filters:
        unreliable = np.array([verdict is Verdict.UNRELIABLE for verdict in judged], np.bool_)
        kept, fit = _without(votes, unreliable, method, options)
    calibration = _calibration(votes, method, check, _measured_gold(ballot, table, beside.drawn))
    posterior = fit.posterior
    if calibration is not None and calibration.temperature is not None and not method.by_share:
        posterior = _tempered(votes, posterior, calibration.temperature)
    people = kept
    if beside.model:  # its vote speaks in the posterior, but how many people agree is told of people alone
        people = kept.without(np.arange(votes.workers) >= ballot.votes.workers)
    if isinstance(people, Votes):
        decisions = decide(people, posterior, spec)
    else:
        decisions = decide_sets(people, posterior, spec, method.by_share)
    order = np.flatnonzero(ballot.item_shown)
    order = order[np.argsort(ballot.item_image[order], kind="stable")]
    agreement = measure_agreement(ballot.votes)
    settled = order[(decisions.certain & ~decisions.gold)[order]]
    audit, drawn = _audit(ballot, table, decisions, settled, spec, beside.judged, notes)
    summary = AggregateSummary(
        method=name,
        explanation=why,
        classes=ballot.classes,
        images=len(order),
        answers=ballot.answers,
        repeated_answers=ballot.repeated,
        abstentions=ballot.abstentions,
        unreliable_answers=int(given.sum()) - len(kept.item),
        iterations=fit.iterations,
        converged=fit.converged,
        alpha=agreement.alpha,
        raw_agreement=agreement.raw,
        warnings=(*notes, *_losses(ballot, decisions, order, judged, method.filters)),
        calibration=calibration,
        audit=audit,
        estimated_error=float(1 - decisions.confidence[settled].mean()) if len(settled) else float("nan"),
    )
    one_label = workers.one_label_shares(votes) if isinstance(votes, Votes) else None
    too_fast = workers.too_fast_shares(table, ballot.worker_rank)
    reports = list(
        workers.report(ballot.worker_names, given, measured, judged, fit.accuracy, fit.confusion, one_label, too_fast)
    )
    ended = Warm(name, ballot.classes, ballot.item_image, ballot.item_shown, parts, fitted)
    return Aggregation(table.images, ballot, order, posterior, decisions, summary, spec, name, reports, drawn, ended)


def _with_model(ballot: Ballot, table: AnswerTable, model: Mapping[str, str], notes: list[str]) -> Votes | SetVotes:
    """The votes of people and, where there is one, of the image model."""
    if not model:
        return ballot.votes
    if isinstance(ballot.votes, SetVotes):
        raise InvalidInput(
            "an image model's probabilities are for one label an image",
            field="probabilities",
            reason="MODEL_NEEDS_ONE_LABEL",
            fix="aggregate without the model, or one label at a time",
        )
    number = {name: i for i, name in enumerate(ballot.classes)}
    if not any(name in model for name in table.images):
        notes.append(
            f"none of {counted(len(model), 'image')} of the image model has an answer, the first {next(iter(model))}: "
            "other names?"
        )
    of_image = np.array([number.get(model.get(name, ""), NO_VOTE) for name in table.images], np.int32)
    unknown = sum(name in model and model[name] not in number for name in table.images)
    if unknown:
        notes.append(
            f"{counted(unknown, 'vote')} of the image model for a class that is not in the label space, not counted"
        )
    return with_model(ballot.votes, of_image[ballot.item_image])


def _measured_gold(ballot: Ballot, table: AnswerTable, drawn: Collection[str]) -> tuple[NDArray[np.bool_], bool]:
    """bool[I]: gold items that measure posteriors, and whether they were drawn at random.

    Those drawn at random where there are any, else all: hand-picked ones are easier or harder than the rest.
    """
    votes = ballot.votes
    gold = (votes.has_gold if isinstance(votes, SetVotes) else votes.gold != NO_GOLD) & (votes.sizes() > 0)
    gold &= ballot.item_shown
    known = np.array([image in drawn for image in table.images] if drawn else [], np.bool_)
    at_random = gold & known[ballot.item_image] if drawn else np.zeros(len(gold), np.bool_)
    return (at_random, True) if at_random.any() else (gold, False)


def _calibration(
    votes: Votes | SetVotes, method: methods.Method, check: Check, measured: tuple[NDArray[np.bool_], bool]
) -> Calibration | None:
    """How honest the method's posteriors are, by a fit from the start that does not know the measured labels."""
    rows, at_random = measured
    if not rows.any() or votes.classes < 2:
        return None
    if isinstance(votes, SetVotes):
        blind = _fit_labels(replace(votes, has_gold=votes.has_gold & ~rows), method, FitOptions(check)).posterior[rows]
        yes = blind.ravel()
        return calibrate(np.stack([1 - yes, yes], 1), votes.gold[rows].ravel().astype(np.int64), len(blind), at_random)
    assert method.fit is not None
    fit = method.fit(replace(votes, gold=np.where(rows, NO_GOLD, votes.gold).astype(np.int32)), FitOptions(check))
    return calibrate(fit.posterior[rows], votes.gold[rows], None, at_random)


def _tempered(votes: Votes | SetVotes, posterior: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    if isinstance(votes, Votes):
        return clamp_gold(tempered(posterior, temperature), votes)
    yes = posterior.ravel()
    found = tempered(np.stack([1 - yes, yes], 1), temperature)[:, 1].reshape(posterior.shape)
    return np.where(votes.has_gold[:, None], votes.gold, found)


def _audit(
    ballot: Ballot,
    table: AnswerTable,
    decisions: Decisions,
    settled: NDArray[np.int64],
    spec: AggregateSpec,
    judged: Judged,
    notes: list[str],
) -> tuple[Audit | None, NDArray[np.int64]]:
    """What the audit says (None unless asked for), and the items that are drawn."""
    if not spec.audit_size and not judged:
        return None, settled[:0]
    images = [table.images[i] for i in ballot.item_image[settled].tolist()]
    order = draw_order(images, spec.audit_seed)
    judged = spoken(judged, spec.multi_label)
    notes.extend(uncounted(images, order, judged))
    notes.extend(unheard(judged, ballot.classes))
    audit = audited(images, list(_labels(ballot, decisions, settled)), order, judged, spec.audit_target)
    return audit, settled[order[: spec.audit_size]]


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
    """The votes that are left without the unreliable workers, and a fit of these; who was not measured counts.

    Source:
        The original's filter_out_unreliable_workers; here an image that only unreliable workers saw stays, unlabeled.
    """
    if isinstance(votes, SetVotes):
        rest = votes.without(unreliable)
        return rest, _fit_labels(rest, method, options)
    assert method.fit is not None  # find() refuses methods for several labels
    left = votes.without(unreliable)
    return left, method.fit(left, options)


def _fit_labels(votes: SetVotes, method: methods.Method, options: FitOptions) -> Fit:
    """Fits each label as its own yes-no question and puts the answers together."""
    posterior = np.zeros((votes.items, votes.classes))
    accuracy = np.zeros(votes.workers)
    iterations, converged, modeled = 0, True, True
    for label in range(votes.classes):
        start = None
        if options.start is not None:
            yes = options.start[:, label]
            start = np.stack([1 - yes, yes], 1)
        fit = method.fit_label(votes.binary(label), replace(options, start=start))
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
