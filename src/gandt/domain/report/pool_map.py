# SPDX-License-Identifier: GPL-3.0-or-later
"""The pool in two dimensions: where the picked, discarded and labeled images lie among all others."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from gandt.domain.report.svg import FAINT, INK, LINE, MUTED

SIZE, MARGIN, LEGEND = 720, 12, 64
FIT_ROWS = 2_000  # images that the two directions are taken from
WANTED = "#d97706"
SERIES = ("unlabeled", "discarded", "picked", "labeled", "wanted", "control")
_LOOKS = {
    "unlabeled": (FAINT, 2.0, "unlabeled"),
    "discarded": (MUTED, 1.5, "discarded by gandt filter, the lower half"),
    "picked": (INK, 3.0, "picked, without a label"),
    "labeled": (LINE, 3.0, "labeled, not wanted"),
    "wanted": (WANTED, 4.0, "labeled, wanted"),
    "control": (INK, 5.0, "control draw"),
}


def two_dimensions(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """The first two principal components of unit vectors, each scaled to [0, 1].

    Args:
        vectors: f[N, D], N >= 1; zero rows stay at the origin.
    Returns:
        f64[N, 2]
    """
    rows = vectors.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0)
    step = max(1, len(rows) // FIT_ROWS)
    middle = rows.mean(axis=0)
    axes = np.linalg.svd(rows[::step] - middle, full_matrices=False)[2][:2]  # [<= 2, D]
    axes *= np.where(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)] < 0, -1.0, 1.0)[:, None]  # one sign only
    flat = np.zeros((len(rows), 2))
    flat[:, : len(axes)] = (rows - middle) @ axes.T
    low, span = flat.min(axis=0), np.ptp(flat, axis=0)
    return np.asarray((flat - low) / np.where(span > 0, span, 1.0))


def series_of(
    ids: Sequence[str],
    labeled: Mapping[str, bool],
    picked: Collection[str],
    discarded: Collection[str],
) -> list[str]:
    """The series of each image: a label counts more than a pick, and a pick more than a discard.

    Args:
        labeled: whether a labeled image is a wanted one.
    """
    chosen, left = set(picked), set(discarded)
    return [
        ("wanted" if labeled[image] else "labeled")
        if image in labeled
        else "picked"
        if image in chosen
        else "discarded"
        if image in left
        else "unlabeled"
        for image in ids
    ]


def map_svg(places: NDArray[np.float64], series: Sequence[str], control: Sequence[bool]) -> str:
    """Dots by series, the rare ones on top, control draws ringed, and a legend with counts.

    Args:
        places: f64[N, 2] in [0, 1].
        series, control: of each image.
    """
    across = SIZE - 2 * MARGIN
    down = across * 0.7
    height = LEGEND + down + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {height:.0f}" role="img" '
        'aria-label="map of the pool" font-family="system-ui, sans-serif" font-size="13">'
    ]
    spots = [(MARGIN + x * across, LEGEND + MARGIN + (1 - y) * down) for x, y in places.tolist()]
    for name in SERIES[:-1]:
        color, radius, _ = _LOOKS[name]
        dots = [spot for spot, own in zip(spots, series, strict=True) if own == name]
        if dots:
            inner = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}"/>' for x, y in dots)
            parts.append(f'<g class="{name}" fill="{color}">{inner}</g>')
    rings = [spot for spot, drawn in zip(spots, control, strict=True) if drawn]
    inner = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_LOOKS["control"][1]}"/>' for x, y in rings)
    parts.append(f'<g class="control" fill="none" stroke="{INK}">{inner}</g>')
    counts = {name: series.count(name) for name in SERIES[:-1]} | {"control": len(rings)}
    for place, name in enumerate(SERIES):
        x, y = 12 + place % 3 * SIZE / 3, 16 + place // 3 * 24
        color, radius, words = _LOOKS[name]
        fill = f'fill="none" stroke="{color}"' if name == "control" else f'fill="{color}"'
        parts.append(f'<circle cx="{x:.0f}" cy="{y - 4}" r="{radius}" {fill}/>')
        parts.append(f'<text x="{x + 12:.0f}" y="{y}" fill="{INK}">{escape(words)}: {counts[name]:,}</text>')
    return "".join([*parts, "</svg>"])
