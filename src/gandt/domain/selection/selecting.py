# SPDX-License-Identifier: GPL-3.0-or-later
"""Picks a round: the uniform control draw first, then the strategy's main picks, each with its reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gandt.domain.datasets import Arm, join_labels
from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.class_models import fit_classes
from gandt.domain.selection.diversity import GroupQuota
from gandt.domain.selection.draws import Stream, generator
from gandt.domain.selection.explain import Evidence, evidence_of
from gandt.domain.selection.pool import Pool, Positions
from gandt.domain.selection.records import MAX_COUNT, Pick, SelectResult, SelectSpec, SelectSummary
from gandt.domain.selection.registry import strategy_named
from gandt.domain.selection.relabel import NAME as RELABEL
from gandt.domain.selection.space import Space
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.strategy import Choice, Chosen, Problem
from gandt.domain.selection.training import TrainingSet


@dataclass(frozen=True)
class Known:
    """What a request knows besides the pool.

    Attributes:
        training: labeled images with vectors.
        groups: image id to near-duplicate group.
        unknown: labeled ids without a vector.
        broken: labeled ids whose vector cannot be compared.
        in_flight: labeled ids that must not be asked again (relabel).
        space: a representation fitted before; None fits one.
    """

    training: TrainingSet
    groups: Mapping[str, str] = field(default_factory=dict)
    unknown: Collection[str] = ()
    broken: Collection[str] = ()
    in_flight: Collection[str] = ()
    space: Space | None = None


def check_select(spec: SelectSpec) -> None:
    """Refuses a spec that can never work.

    Raises:
        InvalidInput: count, control_fraction or a class budget out of range, or an unknown strategy.
    """
    if not 1 <= spec.count <= MAX_COUNT:
        raise InvalidInput(
            f"count is {spec.count}, it must lie between 1 and {MAX_COUNT:,}", field="count", reason="BAD_COUNT"
        )
    if not 0.0 <= spec.control_fraction <= 1.0:
        raise InvalidInput(
            f"control_fraction is {spec.control_fraction}, it must lie in [0, 1]",
            field="control_fraction",
            reason="BAD_SHARE",
        )
    for name, budget in spec.per_class_count.items():
        if budget < 0:
            raise InvalidInput(f"the budget of class {name!r} is negative", field="per_class_count", reason="BAD_COUNT")
    strategy_named(spec.strategy)


def control_size(count: int, fraction: float, pool_size: int) -> int:
    """Images of the control draw: count * fraction, half rounded up, at most the pool.

    >>> control_size(20, 0.1, 500), control_size(1, 0.1, 500)
    (2, 0)
    """
    return min(int(np.floor(count * fraction + 0.5 + 1e-9)), count, pool_size)


def select(spec: SelectSpec, pool: Pool, known: Known) -> Steps[SelectResult]:
    """Picks at most `spec.count` images of the pool.

    Control images are drawn uniformly from the whole pool, also from images that no ranking can place, without regard
    to groups; the main picks leave them out. An empty pool gives an empty result with a warning.

    Raises:
        InvalidInput: the spec can never work, or lacks what its strategy needs.
    """
    check_select(spec)
    size = len(pool)
    warnings = _remarks(pool, known)
    control = _control(spec, pool)
    open_ = pool.usable.copy()
    open_[control] = False
    quota = GroupQuota(known.groups, max(spec.max_per_group, 1))
    for position in control.tolist():
        quota.take(pool.ids[position])
    strategy = strategy_named(spec.strategy)
    again = np.zeros(len(known.training), bool)
    if strategy.info.name == RELABEL:
        again = np.array([image not in known.in_flight for image in known.training.ids], bool)
    problem = Problem(
        pool=pool,
        training=known.training,
        targets=spec.target_labels,
        other=spec.other_label,
        seed=spec.seed,
        round=spec.round,
        open=open_,
        again=again,
        quota=quota,
        per_class=spec.per_class_count,
        warnings=warnings,
        given_space=known.space,
    )
    main = min(spec.count - len(control), int(open_.sum()) + int(again.sum()))
    if main > 0:
        chosen = yield from strategy.choose(problem, main)
    else:
        why = (
            "the pool is empty"
            if not size
            else "every pick is a control image"
            if len(control)
            else "nothing can be ranked"
        )
        chosen = Chosen(strategy.info.name, why, [])
    if len(chosen.choices) + len(control) < min(spec.count, size):
        warnings.append(
            f"{len(chosen.choices) + len(control)} of {spec.count} images were picked: the rest is held back "
            "by near-duplicate groups, class budgets or vectors that cannot be compared"
        )
    yield Progress("explaining", 0, spec.count)
    picks = _picks(spec, problem, chosen, control)
    summary = SelectSummary(
        strategy=chosen.strategy,
        explanation=chosen.explanation,
        scanned=size,
        picked=len(picks),
        unusable_ids=tuple(pool.ids[p] for p in np.flatnonzero(~pool.usable).tolist()),
        unknown_ids=tuple(sorted(known.unknown)),
        warnings=tuple(warnings),
    )
    return SelectResult(tuple(picks), summary)


def _control(spec: SelectSpec, pool: Pool) -> Positions:
    """Control positions in the order drawn."""
    count = control_size(spec.count, spec.control_fraction, len(pool))
    if not count:
        return np.zeros(0, np.int64)
    return generator(spec.seed, spec.round, Stream.CONTROL).choice(len(pool), count, replace=False).astype(np.int64)


def _remarks(pool: Pool, known: Known) -> list[str]:
    out = []
    if not len(pool):
        out.append("the pool is empty: every image is labeled or excluded")
    if unusable := int((~pool.usable).sum()):
        out.append(f"{unusable} pool images have a zero or broken vector; only the control draw can pick them")
    if known.unknown:
        out.append(f"{len(known.unknown)} labeled images have no vector and were left out of the training")
    if known.broken:
        out.append(f"{len(known.broken)} labeled images have a zero or broken vector and were left out of the training")
    return out


def _picks(spec: SelectSpec, problem: Problem, chosen: Chosen, control: Positions) -> list[Pick]:
    pool, training, size = problem.pool, problem.training, len(problem.pool)
    choices = [*chosen.choices, *(Choice(position, 0.0) for position in control.tolist())]
    picks = []
    for rank, (choice, why) in enumerate(zip(choices, _evidence(problem, choices), strict=True), start=1):
        is_control = rank > len(chosen.choices)
        image = (training if choice.labeled else pool).ids[choice.position]
        lead = f"control: drawn uniformly from {size:,} unlabeled images" if is_control else chosen.strategy
        if choice.labeled:
            said = join_labels(training.labels[choice.position])
            lead = f"{chosen.strategy}: one more answer, now {said} ({training.probabilities[choice.position]:.2f})"
        sentence = why.sentence()
        picks.append(
            Pick(
                image_id=image,
                rank=rank,
                score=round(choice.score, 6),
                reason=f"{lead}; {sentence}" if sentence else lead if is_control else f"{lead}: {chosen.explanation}",
                arm=Arm.CONTROL if is_control else Arm.MAIN,
                inclusion_probability=len(control) / size if is_control else 1.0,
                pool_size=size,
                round=spec.round,
                neighbors=why.neighbors,
                predicted_label=why.label,
                predicted_probability=why.chance,
                group_id=problem.quota.group_of(image),
            )
        )
    return picks


def _evidence(problem: Problem, choices: Sequence[Choice]) -> list[Evidence]:
    training = problem.training
    if not len(training) or not len(choices):
        return [Evidence()] * len(choices)
    models = fit_classes(training, problem.space, problem.seed, problem.round)
    out: list[Evidence] = []
    for start in range(0, len(choices), 1_024):
        part = choices[start : start + 1_024]
        vectors = np.empty((len(part), training.vectors.shape[1]))
        for labeled in (False, True):
            rows = np.array([row for row, choice in enumerate(part) if choice.labeled is labeled], np.int64)
            at = np.array([part[row].position for row in rows.tolist()], np.int64)
            if len(rows):
                vectors[rows] = training.vectors[at] if labeled else problem.pool.take(at)
        selves = [training.ids[choice.position] if choice.labeled else "" for choice in part]
        out.extend(evidence_of(vectors, training, problem.space, models, selves))
    return out
