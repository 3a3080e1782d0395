# SPDX-License-Identifier: GPL-3.0-or-later
"""The plot of majority proportions: how many images of each label had which share of agreeing answers.

One bar a label, stacked by proportion (3 / 3, 2 / 3, ...), drawn as SVG without any library.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from gandt.domain.datasets import LabelEstimate, LabelStatus, join_labels

NO_LABEL = "(no label)"
_WIDTH, _LEFT, _TOP, _BAR, _GAP, _CELL = 760, 150, 46, 24, 12, 12
_MAX_BARS = 40


@dataclass(frozen=True, slots=True)
class MajorityProportions:
    """Counts behind the plot.

    Attributes:
        labels: one bar each, by number of images, most first.
        proportions: (agreeing, answers) of each part of a bar, the most agreed first.
        counts: images, one row a label and one column a proportion.
    """

    labels: tuple[str, ...]
    proportions: tuple[tuple[int, int], ...]
    counts: tuple[tuple[int, ...], ...]


def majority_proportions(estimates: Iterable[LabelEstimate]) -> MajorityProportions:
    """Counts images by label (tied ones and sets joined with `|`) and proportion of agreeing answers."""
    cells: Counter[tuple[str, tuple[int, int]]] = Counter()
    for estimate in estimates:
        label = (
            NO_LABEL if estimate.status is LabelStatus.UNLABELED else join_labels(estimate.labels) or "none of these"
        )
        cells[label, (estimate.agreeing, estimate.answers)] += 1
    sums: Counter[str] = Counter()
    for (label, _), count in cells.items():
        sums[label] += count
    labels = tuple(sorted(sums, key=lambda label: (-sums[label], label)))
    proportions = tuple(sorted({part for _, part in cells}, key=lambda part: (-_share(part), -part[1])))
    counts = tuple(tuple(cells[label, part] for part in proportions) for label in labels)
    return MajorityProportions(labels, proportions, counts)


def majority_plot(data: MajorityProportions, title: str = "Majority proportions by label") -> str:
    """The plot as a standalone SVG document.

    Long label spaces are cut after the most common labels; the rest is one bar.
    """
    data = _fold(data)
    longest = max((sum(row) for row in data.counts), default=0)
    height = _TOP + len(data.labels) * (_BAR + _GAP) + 30 + 18 * -(-len(data.proportions) // 6)
    scale = (_WIDTH - _LEFT - 70) / max(longest, 1)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<text x="{_WIDTH / 2:g}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
    ]
    y = float(_TOP)
    for label, row in zip(data.labels, data.counts, strict=True):
        parts.append(_bar(label, row, data.proportions, y, scale))
        y += _BAR + _GAP
    parts.append(_legend(data.proportions, y + 10))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bar(label: str, row: Sequence[int], proportions: Sequence[tuple[int, int]], y: float, scale: float) -> str:
    short = label if len(label) <= 22 else label[:21] + "…"
    parts = [f'<text x="{_LEFT - 8}" y="{y + 16:g}" text-anchor="end">{escape(short)}</text>']
    x = float(_LEFT)
    for count, part in zip(row, proportions, strict=True):
        if not count:
            continue
        width = count * scale
        parts.append(
            f'<rect x="{x:.2f}" y="{y:g}" width="{width:.2f}" height="{_BAR}" fill="{_color(part)}" stroke="#fff">'
            f"<title>{escape(label)}: {count} images with {part[0]} / {part[1]}</title></rect>"
        )
        x += width
    parts.append(f'<text x="{x + 6:.2f}" y="{y + 16:g}">{sum(row):,}</text>')
    return "\n".join(parts)


def _legend(proportions: Sequence[tuple[int, int]], top: float) -> str:
    parts = []
    for i, part in enumerate(proportions):
        x, y = _LEFT + (i % 6) * 95, top + 18 * (i // 6)
        parts.append(
            f'<rect x="{x}" y="{y:g}" width="{_CELL}" height="{_CELL}" fill="{_color(part)}"/>'
            f'<text x="{x + _CELL + 5}" y="{y + 10:g}">{part[0]} / {part[1]}</text>'
        )
    return "\n".join(parts)


def _share(part: tuple[int, int]) -> float:
    return part[0] / part[1] if part[1] else -1.0


def _color(part: tuple[int, int]) -> str:
    """Green where all agree, through yellow at one half, to red; gray without an answer."""
    share = _share(part)
    return "#bbb" if share < 0 else f"hsl({120 * min(share, 1.0):.0f} 55% {42 + 3 * min(part[1], 6)}%)"


def _fold(data: MajorityProportions) -> MajorityProportions:
    if len(data.labels) <= _MAX_BARS:
        return data
    rest = [sum(column) for column in zip(*data.counts[_MAX_BARS - 1 :], strict=True)]
    name = f"{len(data.labels) - _MAX_BARS + 1} others"
    return MajorityProportions(
        (*data.labels[: _MAX_BARS - 1], name), data.proportions, (*data.counts[: _MAX_BARS - 1], tuple(rest))
    )
