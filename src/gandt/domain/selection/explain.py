# SPDX-License-Identifier: GPL-3.0-or-later
"""Says of each pick why it was picked: nearest labeled images, likely label, how it was drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gandt.domain.datasets import join_labels
from gandt.domain.selection.class_models import ClassModels
from gandt.domain.selection.pool import Matrix
from gandt.domain.selection.records import Neighbor
from gandt.domain.selection.space import Space
from gandt.domain.selection.training import TrainingSet

NEIGHBORS = 3
_SHA256 = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1_024


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for a label of one image."""

    neighbors: tuple[Neighbor, ...] = ()
    label: str = ""
    chance: float = 0.0

    def sentence(self) -> str:
        """As words: `like a.jpg (cat, 0.93); probably cat (0.81)`; "" when nothing is known."""
        parts = []
        if self.neighbors:
            named = (f"{_short(n.image_id)} ({join_labels(n.labels)}, {n.similarity:.2f})" for n in self.neighbors[:2])
            parts.append("nearest to " + " and ".join(named))
        if self.label:
            parts.append(f"probably {self.label} ({self.chance:.2f})")
        return "; ".join(parts)


def evidence_of(
    vectors: Matrix,
    training: TrainingSet,
    space: Space,
    models: ClassModels | None,
    selves: Sequence[str] = (),
) -> list[Evidence]:
    """Evidence for each of f64[k, D] unit vectors; a zero vector has none.

    Args:
        selves: of each vector its own id when it is a labeled image, which is then no neighbor of itself; else "".
    """
    row_of = {image: row for row, image in enumerate(training.ids)} if any(selves) else {}
    out: list[Evidence] = []
    for start in range(0, len(vectors), _BLOCK):
        block = vectors[start : start + _BLOCK]
        similar = np.round(block @ training.vectors.T, 6)  # [k, L]
        for row, image in enumerate(selves[start : start + _BLOCK]):
            if image:
                similar[row, row_of[image]] = -np.inf
        chances = models.chances(space.project(block)) if models else None
        for row in range(len(block)):
            if not block[row].any():
                out.append(Evidence())
                continue
            label, chance = "", 0.0
            if models is not None and chances is not None:
                best = int(np.argmax(np.round(chances[row], 9)))
                label, chance = models.names[best], float(chances[row, best])
            out.append(Evidence(_nearest(similar[row], training), label, chance))
    return out


def _nearest(similar: Matrix, training: TrainingSet) -> tuple[Neighbor, ...]:
    keep = min(NEIGHBORS, len(similar))
    if not keep:
        return ()
    # Training images are in id order, so a stable sort breaks ties by id.
    order: Sequence[int] = np.argsort(-similar, kind="stable")[:keep].tolist()
    best = [row for row in order if np.isfinite(similar[row])]  # an image itself is -inf
    return tuple(Neighbor(training.ids[i], training.labels[i], float(similar[i])) for i in best)


def _short(image_id: str) -> str:
    return f"{image_id[:12]}…" if _SHA256.fullmatch(image_id) else image_id
