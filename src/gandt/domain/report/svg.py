# SPDX-License-Identifier: GPL-3.0-or-later
"""Small charts as SVG text: no script, no fonts fetched, readable in print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

INK, MUTED, LINE, FAINT = "#1f2937", "#6b7280", "#0f62fe", "#e5e7eb"
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 320, 52, 44, 52, 16


def line_chart(
    series: Mapping[str, Sequence[tuple[float, float]]], x_title: str, y_title: str, dashed: Sequence[str] = ()
) -> str:
    """Lines over numbers, with a legend.

    Args:
        series: points by name, x ascending; the first is drawn strongest.
        dashed: names that are drawn dashed and muted (comparisons).
    """
    points = [p for line in series.values() for p in line]
    x_max = max([p[0] for p in points], default=0) or 1
    y_max = max([p[1] for p in points], default=0) or 1
    x_ticks, y_ticks = ticks(x_max), ticks(y_max)
    x_max, y_max = max(x_max, x_ticks[-1]), max(y_max, y_ticks[-1])

    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return LEFT + x / x_max * across, HEIGHT - BOTTOM - y / y_max * down

    parts = [open_svg(f"{y_title} by {x_title}")]
    for tick in y_ticks:
        level = place(0, tick)[1]
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" stroke="{FAINT}"/>')
        parts.append(words_at(LEFT - 8, level + 4, _number(tick), "end"))
    for tick in x_ticks:
        parts.append(words_at(place(tick, 0)[0], HEIGHT - BOTTOM + 18, _number(tick), "middle"))
    parts.append(words_at((WIDTH + LEFT) / 2, HEIGHT - 6, x_title, "middle"))
    parts.append(words_at(LEFT, TOP - 8, y_title, "start"))
    for index, (name, line) in enumerate(series.items()):
        faint = name in dashed
        style = (
            f'stroke="{MUTED}" stroke-width="1.5" stroke-dasharray="5 4"'
            if faint
            else f'stroke="{LINE}" stroke-width="2.5"'
        )
        path = " ".join("{:.1f},{:.1f}".format(*place(x, y)) for x, y in line)
        parts.append(f'<polyline fill="none" {style} points="{path}"/>')
        x = LEFT + index * (WIDTH - LEFT) / 2  # the legend stands above the plot, where no line can cross it
        parts.append(f'<line x1="{x:g}" x2="{x + 24:g}" y1="12" y2="12" {style}/>')
        parts.append(words_at(x + 32, 16, name, "start"))
    return "".join([*parts, "</svg>"])


def bar_chart(values: Mapping[str, float], unit: str = "") -> str:
    """Horizontal bars with their numbers, in the given order."""
    row, left = 26, 180
    height = max(row * len(values) + 8, row)
    top = max(values.values(), default=0) or 1
    parts = [open_svg("bars", height)]
    for index, (name, value) in enumerate(values.items()):
        y = 4 + index * row
        width = max(value / top * (WIDTH - left - 90), 1)
        parts.append(words_at(left - 8, y + 16, name, "end"))
        parts.append(f'<rect x="{left}" y="{y + 3}" width="{width:.1f}" height="{row - 8}" rx="3" fill="{LINE}"/>')
        parts.append(words_at(left + width + 8, y + 16, f"{_number(value)}{unit}", "start"))
    return "".join([*parts, "</svg>"])


def ticks(top: float, count: int = 5) -> list[float]:
    """Round numbers from 0 to at least `top`."""
    base = 10.0 ** math.floor(math.log10(top / count))
    step = next(base * factor for factor in (1, 2, 2.5, 5, 10) if base * factor * count >= top * (1 - 1e-9))
    return [round(number * step, 10) for number in range(math.ceil(top / step - 1e-9) + 1)]


def open_svg(title: str, height: float = HEIGHT, width: float = WIDTH) -> str:
    """The start of a chart of that size in units of the page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13">'
    )


def words_at(x: float, y: float, words: str, anchor: str) -> str:
    """A line of text; the anchor is `start`, `middle` or `end`."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.2f}".rstrip("0").rstrip(".")
