# SPDX-License-Identifier: GPL-3.0-or-later
"""All answers of a call as integer columns, put together from chunks that are checked one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.records import STATES, AnswerChunk
from gandt.domain.datasets import LABEL_SEPARATOR
from gandt.domain.errors import InvalidInput
from gandt.domain.vectors import check_id

ANSWERED = 0
UNKNOWN_SECONDS = -1.0
Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True, slots=True)
class AnswerTable:
    """N answers with M label mentions.

    Attributes:
        images, workers, labels, jobs: names by index, in order of first appearance.
        image, worker, job: i32[N].
        state: u8[N] index into `STATES`.
        previous: bool[N], the answer is of an earlier job.
        label_ptr: i64[N + 1]; `label` i32[M] of answer n is `label[label_ptr[n]:label_ptr[n + 1]]`.
        seconds: f32[N] an answer took, negative where unknown; None when no times were measured.
    """

    images: Sequence[str]
    workers: Sequence[str]
    labels: Sequence[str]
    jobs: Sequence[str]
    image: NDArray[np.int32]
    worker: NDArray[np.int32]
    job: NDArray[np.int32]
    state: NDArray[np.uint8]
    previous: NDArray[np.bool_]
    label_ptr: NDArray[np.int64]
    label: NDArray[np.int32]
    seconds: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.image)


@dataclass(frozen=True, slots=True)
class Limits:
    """Most that one call may bring; above it the call is refused, not the process killed."""

    answers: int = 20_000_000
    images: int = 5_000_000
    workers: int = 1_000_000
    classes: int = 10_000


_SETTING = {"label": "max_classes", "job": "max_images"}  # of kinds of names without a setting of that name


@dataclass(slots=True)
class _Names:
    kind: str
    limit: int
    names: list[str] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)

    def add(self, new: Sequence[str], chunk: int) -> None:
        for offset, name in enumerate(new):
            if name in self.index:
                raise InvalidInput(
                    f"answer chunk {chunk} names the {self.kind} {name[:80]!r} (entry {offset}) a second time",
                    field=f"new_{self.kind}s",
                    reason="NAME_REPEATED",
                    metadata={"chunk": str(chunk), "offset": str(offset)},
                )
            self._check(name)
            self.index[name] = len(self.names)
            self.names.append(name)
        if len(self.names) > self.limit:
            raise InvalidInput(
                f"more than {self.limit:,} {self.kind}s came in one call",
                field=f"new_{self.kind}s",
                reason="TOO_MUCH_DATA",
                fix=f"send less, or raise the aggregation service's {_SETTING.get(self.kind, f'max_{self.kind}s')}",
            )

    def _check(self, name: str) -> None:
        if self.kind == "job" or (name.isprintable() and 0 < len(name) <= 128 and self.kind != "label"):
            return
        if self.kind != "label":
            check_id(name, f"{self.kind}_id")
        elif not name or LABEL_SEPARATOR in name:
            raise InvalidInput(
                f"label {name[:80]!r} is empty or holds {LABEL_SEPARATOR!r}", field="new_labels", reason="BAD_CLASS"
            )


class AnswerTableBuilder:
    """Takes chunks in order and refuses a broken one, naming the chunk and the offset in it.

    Args:
        limits: most that may come in.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._images = _Names("image", self._limits.images)
        self._workers = _Names("worker", self._limits.workers)
        self._labels = _Names("label", self._limits.classes)
        self._jobs = _Names("job", self._limits.images)
        self._parts: list[AnswerChunk] = []
        self._rows = 0

    @property
    def rows(self) -> int:
        """Answers taken so far."""
        return self._rows

    def add(self, chunk: AnswerChunk) -> None:
        """Takes one chunk.

        Raises:
            InvalidInput: columns of unequal length, an index that no name has, a name given twice, or too much data.
        """
        number = len(self._parts)
        self._images.add(chunk.new_images, number)
        self._workers.add(chunk.new_workers, number)
        self._labels.add(chunk.new_labels, number)
        self._jobs.add(chunk.new_jobs, number)
        rows = len(chunk.images)
        lengths = {
            "workers": len(chunk.workers),
            "label_counts": len(chunk.label_counts),
            "states": rows if chunk.states is None else len(chunk.states),
            "jobs": rows if chunk.jobs is None else len(chunk.jobs),
            "seconds": rows if chunk.seconds is None else len(chunk.seconds),
        }
        for name, length in lengths.items():
            if length != rows:
                raise InvalidInput(
                    f"answer chunk {number} has {rows} images but {length} {name}", field=name, reason="WRONG_LENGTH"
                )
        if int(chunk.label_counts.sum()) != len(chunk.labels):
            raise InvalidInput(
                f"answer chunk {number} has {len(chunk.labels)} labels, its label_counts add up to "
                f"{int(chunk.label_counts.sum())}",
                field="labels",
                reason="WRONG_LENGTH",
            )
        self._check_indexes(chunk, number)
        self._rows += rows
        if self._rows > self._limits.answers:
            raise InvalidInput(
                f"more than {self._limits.answers:,} answers came in one call",
                field="answers",
                reason="TOO_MUCH_DATA",
                fix="send less, or raise the aggregation service's max_answers",
            )
        self._parts.append(chunk)

    def _check_indexes(self, chunk: AnswerChunk, number: int) -> None:
        columns = [
            ("images", chunk.images, len(self._images.names)),
            ("workers", chunk.workers, len(self._workers.names)),
            ("labels", chunk.labels, len(self._labels.names)),
            ("states", chunk.states, len(STATES)),
            ("jobs", chunk.jobs, len(self._jobs.names)),
        ]
        for name, values, size in columns:
            if values is None or not len(values) or (int(values.max()) < size and int(values.min()) >= 0):
                continue
            offset = int(np.flatnonzero((values >= size) | (values < 0))[0])
            raise InvalidInput(
                f"answer chunk {number}, offset {offset}: {name} holds {int(values[offset])}, "
                f"but only {size} are named so far",
                field=name,
                reason="INDEX_OUT_OF_RANGE",
                metadata={"chunk": str(number), "offset": str(offset)},
            )

    def build(self) -> AnswerTable:
        """All answers taken so far."""
        parts = self._parts
        counts = _joined([p.label_counts for p in parts], np.int64)
        jobs = list(self._jobs.names)
        no_job = jobs.index("") if "" in jobs else len(jobs)
        if no_job == len(jobs):
            jobs.append("")
        return AnswerTable(
            images=self._images.names,
            workers=self._workers.names,
            labels=self._labels.names,
            jobs=jobs,
            image=_joined([p.images for p in parts], np.int32),
            worker=_joined([p.workers for p in parts], np.int32),
            job=_joined([np.full(len(p.images), no_job) if p.jobs is None else p.jobs for p in parts], np.int32),
            state=_joined(
                [np.full(len(p.images), ANSWERED) if p.states is None else p.states for p in parts], np.uint8
            ),
            previous=_joined([np.full(len(p.images), p.previous) for p in parts], np.bool_),
            label_ptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)]),
            label=_joined([p.labels for p in parts], np.int32),
            seconds=_joined([_seconds(p.seconds, len(p.images)) for p in parts], np.float32)
            if any(p.seconds is not None for p in parts)
            else None,
        )


def _seconds(known: NDArray[np.float32] | None, rows: int) -> NDArray[np.float32]:
    return np.full(rows, UNKNOWN_SECONDS, np.float32) if known is None else known


def _joined(parts: Sequence[NDArray[Any]], dtype: type[Number]) -> NDArray[Number]:
    return np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype, copy=False)


def concatenate(first: AnswerTable, second: AnswerTable) -> AnswerTable:
    """Both tables' answers in order; equal names become one."""
    images, workers = _merge(first.images, second.images), _merge(first.workers, second.workers)
    labels, jobs = _merge(first.labels, second.labels), _merge(first.jobs, second.jobs)
    return AnswerTable(
        images=images[0],
        workers=workers[0],
        labels=labels[0],
        jobs=jobs[0],
        image=np.concatenate([first.image, images[1][second.image]]),
        worker=np.concatenate([first.worker, workers[1][second.worker]]),
        job=np.concatenate([first.job, jobs[1][second.job]]),
        state=np.concatenate([first.state, second.state]),
        previous=np.concatenate([first.previous, second.previous]),
        label_ptr=np.concatenate([first.label_ptr, second.label_ptr[1:] + first.label_ptr[-1]]),
        label=np.concatenate([first.label, labels[1][second.label]]),
        seconds=None
        if first.seconds is None and second.seconds is None
        else np.concatenate([_seconds(table.seconds, len(table)) for table in (first, second)]),
    )


def _merge(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], NDArray[np.int32]]:
    """All names, and the new index of each name of the second."""
    index = {name: i for i, name in enumerate(first)}
    places = [index.setdefault(name, len(index)) for name in second]
    return list(index), np.array(places, np.int32)
