# SPDX-License-Identifier: GPL-3.0-or-later
"""Two plots of the report on people: what each worker says of which class, and how far confidence can be trusted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from gandt.domain.aggregation.intervals import wilson_interval
from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.report.svg import FAINT, INK, LINE, MUTED, open_svg, words_at

EVERYBODY = "everybody"
MOST_CLASSES = 8
"""Classes of the plot; the others are left out, as squares would be too small to read."""
MOST_WORKERS = 8
BINS = 10
_CELL, _LABELS, _GAP, _HEAD = 22, 58, 26, 40


@dataclass(frozen=True, slots=True)
class Confusions:
    """How often workers gave each class to images of each class.

    Attributes:
        classes: the commonest, at most `MOST_CLASSES`, in the order of the label space.
        counts: by worker (and `EVERYBODY` first, then by number of answers): a row for each right class, a column for
            each given one.
        against: what right means: "the truth" or "the final labels".
    """

    classes: tuple[str, ...]
    counts: Mapping[str, Sequence[Sequence[int]]]
    against: str


def confusions(
    answers: Iterable[Answer], right: Mapping[str, Sequence[str]], classes: Sequence[str], against: str
) -> Confusions:
    """Counts answers with one label on images with one right label.

    Args:
        right: right labels by image id.
        classes: the label space.
    """
    cells: Counter[tuple[str, str, str]] = Counter()
    for answer in answers:
        labels = right.get(answer.image_id, ())
        if answer.state is AnswerState.ANSWERED and len(answer.labels) == len(labels) == 1:
            cells[answer.worker_id, labels[0], answer.labels[0]] += 1
    common: Counter[str] = Counter()
    by_worker: Counter[str] = Counter()
    for (worker, label, _), count in cells.items():
        common[label] += count
        by_worker[worker] += count
    kept = set(sorted(common, key=lambda label: (-common[label], label))[:MOST_CLASSES])
    shown = tuple(label for label in classes if label in kept)
    names = sorted(by_worker, key=lambda worker: (-by_worker[worker], worker))[:MOST_WORKERS]
    counts = {name: [[cells[name, row, column] for column in shown] for row in shown] for name in names}
    total = [[sum(cells[name, row, column] for name in by_worker) for column in shown] for row in shown]
    return Confusions(shown, {EVERYBODY: total, **counts} if names else {}, against)


def confusion_plot(found: Confusions) -> str:
    """Squares for everybody and for the workers of most answers: the darker, the larger the share of the row.

    Each cell's title gives the share with its 95 % Wilson interval.
    """
    side = _CELL * len(found.classes)
    wide = _LABELS + side + _GAP
    columns = max(1, min(3, 720 // wide))
    rows = -(-len(found.counts) // columns)
    parts = [open_svg(f"given labels against {found.against}", rows * (side + _HEAD + _GAP) + 24, max(720, wide))]
    parts.append(words_at(0, 14, f"rows: {found.against}; columns: what was given, in the same order", "start"))
    for number, (name, counts) in enumerate(found.counts.items()):
        left, top = number % columns * wide, 24 + number // columns * (side + _HEAD + _GAP)
        total = sum(map(sum, counts))
        parts.append(words_at(left + _LABELS, top + 18, f"{_short(name, 16)} ({total:,})", "start"))
        for r, row in enumerate(counts):
            y = top + _HEAD - 12 + r * _CELL
            parts.append(words_at(left + _LABELS - 6, y + 15, _short(found.classes[r], 8), "end"))
            parts.extend(_cells(name, found.classes, r, row, left + _LABELS, y))
    return "".join([*parts, "</svg>"])


def _cells(name: str, classes: Sequence[str], place: int, row: Sequence[int], left: float, y: float) -> Iterable[str]:
    total = sum(row)
    for column, count in enumerate(row):
        low, high = wilson_interval(count, total)
        share = count / total if total else 0.0
        color = LINE if column == place else "#b45309"
        title = (
            f"{name}: {count} of {total} answers on {classes[place]} said {classes[column]}, "
            f"95 % interval {float(low):.2f} to {float(high):.2f}"
        )
        yield (
            f'<rect x="{left + column * _CELL}" y="{y:g}" width="{_CELL - 1}" height="{_CELL - 1}" fill="{color}" '
            f'fill-opacity="{share:.3f}" stroke="{FAINT}"><title>{escape(title)}</title></rect>'
        )


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Labels of similar confidence: mean confidence, right ones, number, and the 95 % interval of the right share."""

    confidence: float
    right: int
    labels: int
    low: float
    high: float


def calibration_bins(labels: Iterable[tuple[float, bool]]) -> list[CalibrationBin]:
    """Bins of equal width, without empty ones.

    Args:
        labels: confidence in [0, 1] and whether the label is right.
    """
    members: dict[int, list[tuple[float, bool]]] = {}
    for confidence, hit in labels:
        members.setdefault(min(int(confidence * BINS), BINS - 1), []).append((confidence, hit))
    bins = []
    for _, held in sorted(members.items()):
        hits = sum(hit for _, hit in held)
        low, high = wilson_interval(hits, len(held))
        mean = math.fsum(confidence for confidence, _ in held) / len(held)
        bins.append(CalibrationBin(mean, hits, len(held), float(low), float(high)))
    return bins


def calibration_plot(bins: Sequence[CalibrationBin]) -> str:
    """The share of right labels by confidence, with intervals; on the dashed line confidence is honest."""
    left, top, side = 56.0, 20.0, 300.0

    def place(confidence: float, share: float) -> tuple[float, float]:
        return left + confidence * side, top + (1 - share) * side

    parts = [open_svg("right labels by confidence", top + side + 50)]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y = place(tick, tick)
        parts.append(f'<line x1="{left:g}" x2="{left + side:g}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>')
        parts.append(words_at(left - 8, y + 4, f"{tick:g}", "end"))
        parts.append(words_at(x, top + side + 18, f"{tick:g}", "middle"))
    parts.append(words_at(left + side / 2, top + side + 38, "confidence of the label", "middle"))
    parts.append(words_at(left, top - 6, "share of labels that are right", "start"))
    (x0, y0), (x1, y1) = place(0, 0), place(1, 1)
    parts.append(
        f'<line x1="{x0:g}" y1="{y0:g}" x2="{x1:g}" y2="{y1:g}" stroke="{MUTED}" stroke-dasharray="5 4" fill="none"/>'
    )
    for found in bins:
        x, y = place(found.confidence, found.right / found.labels)
        ends = place(0, found.low)[1], place(0, found.high)[1]
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="{INK}"/>')
        title = f"{found.right} of {found.labels} labels are right at a confidence of {found.confidence:.2f}"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{LINE}"><title>{escape(title)}</title></circle>')
    return "".join([*parts, "</svg>"])


def _short(name: str, length: int) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"
