# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers that are not people: for the demo, for `gandt simulate`, and for tests of the whole loop.

A simulated worker answers a tile from the truth, its own error rate and a random number that depends on nothing but
seed, worker and image. So a run gives the same answers whatever the order, the number of threads or a restart.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from gandt.domain.datasets import AnswerState
from gandt.domain.errors import InvalidInput

SPEED_SPREAD = 0.4  # sigma of the log-normal time on a tile
TOO_FAST_SECONDS = 0.15


class WorkerKind(StrEnum):
    """How a worker goes about it."""

    HONEST = "honest"  # looks, and errs at its error rate
    RANDOM = "random"  # presses any button
    CONSTANT = "constant"  # always the first label
    TICK_ALL = "tick_all"  # every label, where several are allowed; else the last one
    TOO_FAST = "too_fast"  # any button, faster than anybody can look


@dataclass(frozen=True, slots=True)
class TileChoice:
    """What a simulated worker does with one tile.

    Attributes:
        seconds: active time on the tile.
    """

    labels: tuple[str, ...]
    state: AnswerState
    seconds: float


@dataclass(frozen=True, slots=True)
class SimWorker:
    """One simulated worker.

    Attributes:
        name: tells workers of one run apart; part of the randomness.
        seed: of the run.
        accuracy: an honest worker's chance, in [0, 1], of the right label; with several labels allowed, of the
            right yes or no for each.
        confusion: rows by true label, chance by given label; replaces `accuracy` for the labels that it has.
        blank_probability: chance of leaving a tile blank.
        median_seconds: usual time on a tile.
    """

    name: str
    seed: int = 0
    kind: WorkerKind = WorkerKind.HONEST
    accuracy: float = 0.9
    confusion: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    blank_probability: float = 0.0
    median_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Raise InvalidInput for a probability out of range."""
        for name in ("accuracy", "blank_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidInput(f"{name} is {getattr(self, name)}, not in [0, 1]", field=name, reason="BAD_NUMBER")

    def choose(
        self,
        image_id: str,
        truth: Sequence[str] | None,
        event_names: Sequence[str],
        other_label: str,
        multi_label: bool,
    ) -> TileChoice:
        """Answer one tile.

        Args:
            truth: the image's true labels; () means none of the classes. None when nobody knows: the worker is
                then not sure.
            event_names: the classes on the page, without the other label.
            other_label: "" when the page has none.
        """
        rng = self._random(image_id)
        fast = self.kind == WorkerKind.TOO_FAST
        seconds = (TOO_FAST_SECONDS if fast else self.median_seconds) * rng.lognormvariate(0, SPEED_SPREAD)
        options = [*event_names, *([other_label] if other_label else [])]
        if not options or rng.random() < self.blank_probability:
            return TileChoice((), AnswerState.BLANK, seconds)
        if self.kind == WorkerKind.CONSTANT:
            labels = options[:1]
        elif self.kind == WorkerKind.TICK_ALL:
            labels = list(event_names) if multi_label else options[-1:]
        elif self.kind in (WorkerKind.RANDOM, WorkerKind.TOO_FAST):
            labels = [rng.choice(options)]
        elif truth is None:
            return TileChoice((), AnswerState.UNSURE, seconds)
        else:
            true = [name for name in truth if name in event_names]
            if multi_label:
                labels = [name for name in event_names if (name in true) == (rng.random() < self.accuracy)]
                labels = labels or options[len(event_names) :]
            else:
                labels = [self._one(true[0] if true else other_label, options, rng)]
        return TileChoice(tuple(labels), AnswerState.ANSWERED if labels else AnswerState.BLANK, seconds)

    def fill_form(self, tiles: Sequence[Mapping[str, Any]], truth: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """The form of a whole page, with the fields of our own template.

        Args:
            tiles: the page's `taskObject`.
            truth: true labels by the tile's `id`, or by its URI.
        """
        first = tiles[0] if tiles else {}
        names = [str(name) for name in first.get("event_names") or []]
        other = str(first.get("other_category_label") or "")
        multi = bool(first.get("multi_label", True))
        form = {}
        for tile in tiles:
            image, uri, index = str(tile.get("id") or ""), str(tile.get("source-ref", "")), tile["index"]
            known = truth.get(image, truth.get(uri))
            chosen = self.choose(image or uri, known, names, other, multi)
            form[f"labels-{index}"] = json.dumps(chosen.labels)
            form[f"state-{index}"] = str(chosen.state)
            form[f"ms-{index}"] = str(round(chosen.seconds * 1000))
        form["meta"] = json.dumps({"page": "simulated", "mode": "grid"})
        return form

    def _one(self, true: str, options: Sequence[str], rng: random.Random) -> str:
        row = self.confusion.get(true)
        if row and any(row.get(option, 0) > 0 for option in options):
            return rng.choices(options, [max(row.get(option, 0), 0) for option in options])[0]
        if true in options and rng.random() < self.accuracy:
            return true
        return rng.choice([option for option in options if option != true] or list(options))

    def _random(self, image_id: str) -> random.Random:
        digest = hashlib.sha256(f"{self.seed}\x1f{self.name}\x1f{image_id}".encode()).digest()
        return random.Random(int.from_bytes(digest[:8], "big"))


def crew(size: int, seed: int, accuracy: float = 0.9, spammers: int = 0) -> list[SimWorker]:
    """A team: honest workers around an accuracy, the last `spammers` of them of the other kinds in turn.

    Args:
        accuracy: mean of the honest ones; each differs by up to 0.05, within [0, 1].
    """
    bad = [kind for kind in WorkerKind if kind != WorkerKind.HONEST]
    team = []
    for place in range(size):
        spam = place - (size - spammers)
        kind = bad[spam % len(bad)] if spam >= 0 else WorkerKind.HONEST
        shift = random.Random(f"{seed}-{place}").uniform(-0.05, 0.05)
        team.append(SimWorker(f"sim-{place + 1}", seed, kind, min(1.0, max(0.0, accuracy + shift))))
    return team
