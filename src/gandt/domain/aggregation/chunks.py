# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers into columnar chunks with name dictionaries: what a client sends and a stored table is read as."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gandt.domain.aggregation.answer_table import UNKNOWN_SECONDS
from gandt.domain.aggregation.records import STATES, AnswerChunk, GoldChunk, ModelChunk
from gandt.domain.datasets import Answer

MAX_CHUNK_BYTES = 1_000_000  # below the contract's 1 MiB, room for the envelope
MOST_SECONDS = 1e9  # 30 years; what is longer would be infinite as an f32
_ROW_BYTES = 20  # three varints, a count, a state and the seconds at their largest usual sizes
_STATE_NUMBER = {state: number for number, state in enumerate(STATES)}


@dataclass(slots=True)
class _Names:
    """Numbers of names, and the names that no chunk has told yet."""

    index: dict[str, int] = field(default_factory=dict)
    new: list[str] = field(default_factory=list)

    def told(self) -> list[str]:
        """The new names, which are then no longer new."""
        told, self.new = self.new, []
        return told


class AnswerEncoder:
    """Turns streams of answers into chunks; names keep their indexes over all streams given to one encoder."""

    def __init__(self, max_bytes: int = MAX_CHUNK_BYTES) -> None:
        self._max_bytes = max_bytes
        self._size = 0
        self._images, self._workers, self._labels, self._jobs = _Names(), _Names(), _Names(), _Names()

    def encode(self, answers: Iterable[Answer], previous: bool = False) -> Iterator[AnswerChunk]:
        """The answers in order, in chunks of at most about `max_bytes`.

        Args:
            previous: the answers are of earlier jobs.
        """
        source = iter(answers)
        while (chunk := self._take(source, previous)) is not None:
            yield chunk

    def _take(self, source: Iterator[Answer], previous: bool) -> AnswerChunk | None:
        images: list[int] = []
        workers: list[int] = []
        counts: list[int] = []
        labels: list[int] = []
        states: list[int] = []
        jobs: list[int] = []
        seconds: list[float | None] = []
        self._size = 0
        for answer in source:
            images.append(self._index(self._images, answer.image_id))
            workers.append(self._index(self._workers, answer.worker_id))
            jobs.append(self._index(self._jobs, answer.job))
            labels.extend(self._index(self._labels, label) for label in answer.labels)
            counts.append(len(answer.labels))
            states.append(_STATE_NUMBER[answer.state])
            seconds.append(answer.seconds)
            self._size += _ROW_BYTES + 4 * len(answer.labels)
            if self._size >= self._max_bytes:
                break
        if not images:
            return None
        return AnswerChunk(
            new_images=self._images.told(),
            new_workers=self._workers.told(),
            new_labels=self._labels.told(),
            new_jobs=self._jobs.told(),
            images=np.array(images, np.int64),
            workers=np.array(workers, np.int64),
            label_counts=np.array(counts, np.int64),
            labels=np.array(labels, np.int64),
            states=np.array(states, np.uint8) if any(states) else None,
            jobs=np.array(jobs, np.int64) if any(self._jobs.index) else None,
            previous=previous,
            seconds=None
            if seconds.count(None) == len(seconds)
            else np.array([UNKNOWN_SECONDS if s is None else min(s, MOST_SECONDS) for s in seconds], np.float32),
        )

    def _index(self, names: _Names, name: str) -> int:
        index = names.index.get(name)
        if index is None:
            index = names.index[name] = len(names.index)
            names.new.append(name)
            self._size += 4 + (len(name) if name.isascii() else 4 * len(name))
        return index


Known = tuple[str, tuple[str, ...]]
"""An image id and its right labels."""


def encode_known(gold: Iterable[Known], max_bytes: int = MAX_CHUNK_BYTES) -> Iterator[Sequence[Known]]:
    """Known labels in parts of at most about `max_bytes`, for gold or audit chunks."""
    part: list[Known] = []
    size = 0
    for image_id, labels in gold:
        part.append((image_id, labels))
        size += sum(4 * len(text) + 8 for text in (image_id, *labels))
        if size >= max_bytes:
            yield part
            part, size = [], 0
    if part:
        yield part


def encode_gold(gold: Mapping[str, Sequence[str]], drawn_at_random: Collection[str] = ()) -> Iterator[GoldChunk]:
    """Gold in chunks, the images that were drawn at random apart."""
    for drawn in (False, True):
        rows = ((image, tuple(labels)) for image, labels in gold.items() if (image in drawn_at_random) == drawn)
        for part in encode_known(rows):
            yield GoldChunk(part, drawn)


def encode_model(model: ModelChunk, max_bytes: int = MAX_CHUNK_BYTES) -> Iterator[ModelChunk]:
    """An image model's probabilities in chunks of at most about `max_bytes`."""
    row = 4 * len(model.classes) + 4 + 4 * max(map(len, model.images), default=0)
    rows = max(1, (max_bytes - sum(4 * len(name) + 4 for name in model.classes)) // row)
    for start in range(0, len(model.images), rows):
        part = slice(start, start + rows)
        yield ModelChunk(model.images[part], model.classes, model.probability[part])
