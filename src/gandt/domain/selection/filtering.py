# SPDX-License-Identifier: GPL-3.0-or-later
"""Decides for every pool image: keep, discard or undecided; by the original's rule or by ranking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.progress import Progress
from gandt.domain.selection.audit import MAX_AUDIT, audit_bound, audit_draw
from gandt.domain.selection.compat_filter import NO_THRESHOLD, check_compat, count_farther, threshold_of
from gandt.domain.selection.pool import Pool, Rows, unit_rows
from gandt.domain.selection.ranking_filter import discard_by_loss, discard_share, losses, rank_pool
from gandt.domain.selection.records import Decision, DecisionBlock, FilterSpec, FilterSummary
from gandt.domain.selection.steps import Steps
from gandt.domain.selection.training import TrainingSet, merged, training_set
from gandt.domain.selection.trimmed_distance import TrimmedDistances, label_columns

_BLOCK_NUMBERS = 2**20  # numbers of a block: 4 MiB of float32
_DECISIONS = (Decision.KEEP, Decision.DISCARD, Decision.UNDECIDED)
_KEEP, _DISCARD, _UNDECIDED = range(3)


@dataclass(frozen=True)
class LabeledVectors:
    """The labeled side of a filter.

    Attributes:
        mentions: labeled images as given; the original counts an image that is mentioned twice twice.
        ids: image of each row of `vectors`.
        vectors: float[L, D] as they are.
        unknown: labeled ids without a vector.
    """

    mentions: Sequence[LabeledImage]
    ids: Sequence[str]
    vectors: NDArray[np.floating]
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class Filtered:
    """Decisions for the whole pool, in the order in which it came."""

    ids: Sequence[str]
    decisions: NDArray[np.int8]
    farther: NDArray[np.int32]
    distances: NDArray[np.floating]
    summary: FilterSummary

    def blocks(self, rows: int) -> Iterator[DecisionBlock]:
        """The decisions, at most `rows` at a time."""
        for start in range(0, len(self.ids), rows):
            part = slice(start, start + rows)
            yield DecisionBlock(
                self.ids[part],
                [_DECISIONS[code] for code in self.decisions[part].tolist()],
                self.farther[part].astype(np.int64),
                self.distances[part].astype(np.float64),
            )


def check_filter(spec: FilterSpec) -> None:
    """Refuses a spec without exactly one rule, or with a share outside [0, 1].

    Raises:
        InvalidInput: as said.
    """
    rules = {
        "discard_share": spec.discard_share,
        "max_loss_share": spec.max_loss_share,
        "min_proportion_to_discard": spec.min_proportion,
    }
    given = {name: share for name, share in rules.items() if share is not None}
    if len(given) != 1:
        raise InvalidInput(
            f"a filter needs exactly one rule, {len(given)} were given",
            field="rule",
            reason="NO_RULE" if not given else "SEVERAL_RULES",
            fix="give one of --discard SHARE, --max-loss SHARE or --compat",
        )
    for name, share in given.items():
        if not 0.0 <= share <= 1.0:
            raise InvalidInput(f"{name} is {share}, it must lie in [0, 1]", field=name, reason="BAD_SHARE")
    if not 0 <= spec.audit <= MAX_AUDIT:
        raise InvalidInput(
            f"audit is {spec.audit}, it must lie between 0 and {MAX_AUDIT:,}", field="audit", reason="BAD_COUNT"
        )


def filter_pool(spec: FilterSpec, ids: Sequence[str], rows: Rows, labeled: LabeledVectors) -> Steps[Filtered]:
    """Decides for each row of the pool.

    Args:
        ids: N image ids, in the order of `rows`; with the original's rule an id may occur several times.
        rows: their vectors.
        labeled: the labeled side.
    Raises:
        InvalidInput: a bad spec, or labels that the rule cannot work with.
    """
    check_filter(spec)
    side = label_columns(
        [image.image_id for image in labeled.mentions],
        [image.labels for image in labeled.mentions],
        labeled.ids,
        labeled.vectors,
    )
    if spec.min_proportion is not None:
        check_compat(side.names, spec.other_label, spec.min_proportion)
    measure = TrimmedDistances(side, spec.other_label)
    distances = np.full((len(ids), len(side.names)), np.nan, measure.dtype)
    farther = np.zeros(len(ids), np.int32)
    done = 0
    for block in rows.blocks(max(64, _BLOCK_NUMBERS // max(rows.dim, 1_024))):
        exact = measure.of(block)  # counted before they are stored, in float32 where there are many
        farther[done : done + len(block)] = count_farther(exact, side.names, spec.other_label)
        distances[done : done + len(block)] = exact
        done += len(block)
        yield Progress("scanning", done, len(ids))
    warnings = [f"{len(labeled.unknown)} labeled images have no vector and were left out"] if labeled.unknown else []
    if spec.min_proportion is not None:
        decisions, threshold = _by_original_rule(farther, len(side.names) - 1, spec.min_proportion, warnings)
        loss, bound = -1.0, -1.0
    else:
        decisions, (loss, bound) = yield from _by_ranking(spec, ids, rows, labeled, warnings)
        threshold = NO_THRESHOLD
        if spec.other_label not in side.names:
            warnings.append(f"no labeled image carries {spec.other_label!r}, so farther_than_other is undefined")
    count = np.bincount(decisions, minlength=3)
    audited: tuple[str, ...] = ()
    if spec.audit:
        audited = audit_draw(
            [ids[row] for row in np.flatnonzero(decisions == _DISCARD).tolist()], spec.audit, spec.seed
        )
    summary = FilterSummary(
        labels=side.names,
        kept=int(count[_KEEP]),
        discarded=int(count[_DISCARD]),
        undecided=int(count[_UNDECIDED]),
        threshold=threshold,
        estimated_loss=loss,
        loss_bound=bound,
        audit_ids=audited,
        audit_bound=audit_bound(int(count[_DISCARD]), len(audited)),
        warnings=tuple(warnings),
    )
    return Filtered(ids, decisions, farther, distances, summary)


def _by_original_rule(
    farther: NDArray[np.int32], labels: int, min_proportion: float, warnings: list[str]
) -> tuple[NDArray[np.int8], int]:
    threshold = threshold_of(farther, labels, min_proportion)
    if threshold == NO_THRESHOLD:
        warnings.append(
            f"no threshold discards {min_proportion:g} of the pool: the original loses every image here, "
            "so all are undecided; ask for a smaller share"
        )
        return np.full(len(farther), _UNDECIDED, np.int8), threshold
    return np.where(farther > threshold, _DISCARD, _KEEP).astype(np.int8), threshold


def _by_ranking(
    spec: FilterSpec, ids: Sequence[str], rows: Rows, labeled: LabeledVectors, warnings: list[str]
) -> Steps[tuple[NDArray[np.int8], tuple[float, float]]]:
    pool, training = Pool(ids, rows), _training(labeled, warnings)
    wanted = spec.target_labels or tuple(name for name in training.names if name != spec.other_label)
    ranked = yield from rank_pool(pool, training, wanted)
    if spec.discard_share is not None:
        discarded = discard_share(pool, ranked, spec.discard_share)
    else:
        discarded = discard_by_loss(pool, ranked, spec.max_loss_share or 0.0)
    codes = np.where(discarded, _DISCARD, _KEEP).astype(np.int8)
    codes[~pool.usable] = _UNDECIDED
    warnings.extend(ranked.warnings)
    if lost := int((~pool.usable).sum()):
        warnings.append(f"{lost} images are undecided: their vectors are zero or not finite")
    return codes[pool.positions_by_row], losses(pool, ranked, discarded)


def _training(labeled: LabeledVectors, warnings: list[str]) -> TrainingSet:
    units = unit_rows(labeled.vectors)
    usable = np.flatnonzero(units.any(axis=1))
    if len(usable) < len(units):
        warnings.append(f"{len(units) - len(usable)} labeled images have a zero or broken vector and were left out")
    return training_set(merged(labeled.mentions), [labeled.ids[row] for row in usable.tolist()], units[usable])
