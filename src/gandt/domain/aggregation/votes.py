# SPDX-License-Identifier: GPL-3.0-or-later
"""The votes that count, sorted by item: one vote per worker and item, repeated labels once.

An item is an image to be labeled, or an image of an earlier job that only measures workers. Items and workers are
numbered by the code-point order of their names, so that sums, and with them every result, do not depend on the
order of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.answer_table import ANSWERED, AnswerTable
from gandt.domain.aggregation.records import UNKNOWN_CLASS, AggregateSpec, DuplicatePolicy, counted
from gandt.domain.errors import InvalidInput

NO_GOLD = -1
MAX_CELLS = 400_000_000  # items x classes of float64 that may be held: 3.2 GB


@dataclass(frozen=True, slots=True)
class Votes:
    """V votes on I items with one label each, CSR by item.

    Attributes:
        item_ptr: i64[I + 1]; votes of item i are `item_ptr[i]:item_ptr[i + 1]`, ascending by worker.
        item, worker, label: i32[V]; labels are class numbers below `classes`.
        gold: i32[I] known class, or `NO_GOLD`.
        workers, classes: W and K.
    """

    item_ptr: NDArray[np.int64]
    item: NDArray[np.int32]
    worker: NDArray[np.int32]
    label: NDArray[np.int32]
    gold: NDArray[np.int32]
    workers: int
    classes: int

    @property
    def items(self) -> int:
        """I."""
        return len(self.item_ptr) - 1

    def cells(self) -> NDArray[np.int64]:
        """i64[V]: place of each vote's item and label in a flat [I, K] array."""
        cells = self.item.astype(np.int64)
        cells *= self.classes
        cells += self.label
        return cells

    def counts(self) -> NDArray[np.float64]:
        """f64[I, K] votes for each class."""
        counts = np.bincount(self.cells(), minlength=self.items * self.classes)
        return counts.reshape(self.items, self.classes).astype(np.float64)

    def sizes(self) -> NDArray[np.int64]:
        """i64[I] votes of each item."""
        return np.diff(self.item_ptr)

    def without(self, workers: NDArray[np.bool_]) -> Votes:
        """The votes of the workers that are False in bool[W]; items stay, some perhaps with no vote."""
        keep = ~workers[self.worker]
        return replace(
            self,
            item_ptr=_pointers(self.item[keep], self.items),
            item=self.item[keep],
            worker=self.worker[keep],
            label=self.label[keep],
        )


@dataclass(frozen=True, slots=True)
class SetVotes:
    """V votes on I items with a set of labels each, CSR by item; an empty set means none of these.

    Attributes:
        item_ptr, item, worker: as in `Votes`.
        set_ptr: i64[V + 1]; labels of vote v are `set_label[set_ptr[v]:set_ptr[v + 1]]`, i32 ascending.
        gold: bool[I, K] known labels; `has_gold` bool[I] says where.
    """

    item_ptr: NDArray[np.int64]
    item: NDArray[np.int32]
    worker: NDArray[np.int32]
    set_ptr: NDArray[np.int64]
    set_label: NDArray[np.int32]
    gold: NDArray[np.bool_]
    has_gold: NDArray[np.bool_]
    workers: int
    classes: int

    @property
    def items(self) -> int:
        """I."""
        return len(self.item_ptr) - 1

    def sizes(self) -> NDArray[np.int64]:
        """i64[I] votes of each item."""
        return np.diff(self.item_ptr)

    def binary(self, label: int) -> Votes:
        """The question "does it carry this label" alone: class 1 is yes, 0 is no."""
        says = np.zeros(len(self.item), np.int32)
        says[np.repeat(np.arange(len(self.item)), np.diff(self.set_ptr))[self.set_label == label]] = 1
        gold = np.where(self.has_gold, self.gold[:, label].astype(np.int32), NO_GOLD).astype(np.int32)
        return Votes(self.item_ptr, self.item, self.worker, says, gold, self.workers, 2)

    def without(self, workers: NDArray[np.bool_]) -> SetVotes:
        """The votes of the workers that are False in bool[W]."""
        keep = ~workers[self.worker]
        sizes = np.diff(self.set_ptr)
        return replace(
            self,
            item_ptr=_pointers(self.item[keep], self.items),
            item=self.item[keep],
            worker=self.worker[keep],
            set_ptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes[keep])]),
            set_label=self.set_label[np.repeat(keep, sizes)],
        )


@dataclass(frozen=True, slots=True)
class Ballot:
    """Votes with the names of what they are about.

    Attributes:
        votes: one label or a set each.
        item_image: i32[I] image of an item; `item_shown` bool[I] whether it is labeled for the caller.
        worker_names: W names in order.
        answers, repeated, abstentions: answers that came in, were left out as repeats, and do not vote.
        worker_rank: i32[W] number of each worker of the table in `worker_names`.
        notes: warnings in words.
    """

    votes: Votes | SetVotes
    item_image: NDArray[np.int32]
    item_shown: NDArray[np.bool_]
    worker_names: Sequence[str]
    classes: tuple[str, ...]
    answers: int
    repeated: int
    abstentions: int
    worker_rank: NDArray[np.int32]
    notes: tuple[str, ...] = ()


def label_space(table: AnswerTable, spec: AggregateSpec, gold: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The spec's classes, or the labels seen (in answers and in the gold of answered images), by code point."""
    if spec.classes:
        return spec.classes
    seen = {table.labels[i] for i in np.unique(table.label)}
    seen.update(label for image in table.images for label in gold.get(image, ()))
    return tuple(sorted(seen))


def count_votes(table: AnswerTable, spec: AggregateSpec, gold: Mapping[str, Sequence[str]]) -> Ballot:
    """Decides which answers vote.

    Raises:
        InvalidInput: several labels in one answer without `multi_label`, or a second answer under the policy ERROR.
    """
    classes = label_space(table, spec, gold)
    number = {name: i for i, name in enumerate(classes)}
    class_of = np.array([number.get(name, -1) for name in table.labels] or [0], np.int32)
    notes: list[str] = []
    rows, row_labels = _mentions(table, class_of)
    unknown = _unknown_labels(table, class_of, notes)
    if not spec.multi_label:
        _check_single(table, rows)
    votes = (table.state == ANSWERED) & ~unknown
    if not spec.multi_label:
        votes &= np.bincount(rows, minlength=len(table)) > 0
    item_of, item_image, item_shown = _items(table, spec.include_previous)
    worker_of = _ranks(table.workers)
    chosen, repeated = _one_per_worker(table, np.flatnonzero(votes), item_of, worker_of, spec.duplicates)
    items = len(item_image)
    if items * len(classes) > MAX_CELLS:
        raise InvalidInput(
            f"{items:,} images with {len(classes):,} classes are more than fit", field="classes", reason="TOO_MUCH_DATA"
        )
    item = item_of[chosen].astype(np.int32)
    worker = worker_of[table.worker[chosen]]
    pointers = _pointers(item, items)
    kept: Votes | SetVotes
    if spec.multi_label:
        known, has_gold = _gold_sets(table, item_image, number, gold, notes)
        set_ptr, set_label = _sets(rows, row_labels, chosen, len(table))
        kept = SetVotes(pointers, item, worker, set_ptr, set_label, known, has_gold, len(table.workers), len(classes))
    else:
        first = np.full(len(table), -1, np.int32)
        first[rows] = row_labels
        kept = Votes(
            pointers,
            item,
            worker,
            first[chosen],
            _gold_labels(table, item_image, number, gold, notes),
            len(table.workers),
            len(classes),
        )
    return Ballot(
        votes=kept,
        item_image=item_image,
        item_shown=item_shown,
        worker_names=sorted(table.workers),
        classes=classes,
        answers=len(table),
        repeated=repeated,
        abstentions=len(table) - int(votes.sum()),
        worker_rank=worker_of,
        notes=tuple(notes),
    )


def _pointers(item: NDArray[np.int32], items: int) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bincount(item, minlength=items))])


def _mentions(table: AnswerTable, class_of: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Rows and classes of all label mentions of answers that may vote, each label of an answer once, in order."""
    sizes = np.diff(table.label_ptr)
    rows = np.repeat(np.arange(len(table)), sizes)
    labels = class_of[table.label]
    good = (labels >= 0) & (table.state[rows] == ANSWERED)
    rows, labels = rows[good], labels[good]
    if len(rows) and int(sizes.max()) > 1:
        width = np.int64(labels.max()) + 1
        keys = np.unique(rows * width + labels)
        rows, labels = keys // width, (keys % width).astype(np.int32)
    return rows, labels


def _unknown_labels(table: AnswerTable, class_of: NDArray[np.int32], notes: list[str]) -> NDArray[np.bool_]:
    """bool[N] answers with a label outside the label space; they do not vote, and a note says so."""
    unknown = np.zeros(len(table), np.bool_)
    bad = class_of[table.label] < 0
    if not bad.any():
        return unknown
    rows = np.repeat(np.arange(len(table)), np.diff(table.label_ptr))[bad]
    unknown[rows] = True
    row = int(rows[0])
    name = table.labels[int(table.label[bad][0])]
    notes.append(
        f"{counted(int(unknown.sum()), 'answer')} with a label that is {UNKNOWN_CLASS} not counted, the first "
        f"{name!r} of worker {table.workers[table.worker[row]]} for image {table.images[table.image[row]]}"
    )
    return unknown


def _check_single(table: AnswerTable, rows: NDArray[np.int64]) -> None:
    again = rows[1:] == rows[:-1]
    if not again.any():
        return
    row = int(rows[1:][again][0])
    raise InvalidInput(
        f"worker {table.workers[table.worker[row]]} gave image {table.images[table.image[row]]} several labels, "
        "but images carry one label here",
        field="multi_label",
        reason="SEVERAL_LABELS",
        fix="aggregate with --multilabel",
    )


def _ranks(names: Sequence[str]) -> NDArray[np.int32]:
    """i32[n]: place of each name in code-point order."""
    ranks = np.empty(len(names), np.int32)
    ranks[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names), dtype=np.int32)
    return ranks


def _items(
    table: AnswerTable, include_previous: bool
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
    """Item of each answer, image of each item, and whether the item is shown.

    An image of this call and the same image of an earlier job are two items unless earlier jobs are labeled too.
    """
    images = len(table.images)
    raw = table.image.astype(np.int64)
    answered = np.zeros(images, np.bool_)
    answered[table.image] = True
    if not include_previous:
        raw += table.previous * images
    present = np.zeros(2 * images, np.bool_)
    present[raw] = True
    present[:images] |= ~answered  # named, but nobody answered: it came in, so it goes out
    used = np.flatnonzero(present)
    image = (used % max(images, 1)).astype(np.int32)
    shown = used < images
    order = np.lexsort((~shown, _ranks(table.images)[image]))
    place = np.zeros(2 * images, np.int64)
    place[used[order]] = np.arange(len(used))
    return place[raw], image[order], shown[order]


def _one_per_worker(
    table: AnswerTable,
    rows: NDArray[np.int64],
    item_of: NDArray[np.int64],
    worker_of: NDArray[np.int32],
    policy: DuplicatePolicy,
) -> tuple[NDArray[np.int64], int]:
    """Rows that count, by item and worker, and how many were left out."""
    # Answers of earlier jobs came first, whatever the order of the stream.
    rows = rows[np.argsort(~table.previous[rows], kind="stable")]
    if policy is DuplicatePolicy.LAST:
        rows = rows[::-1]
    key = item_of[rows] * len(table.workers) + worker_of[table.worker[rows]]
    order = np.argsort(key, kind="stable")
    key = key[order]
    first = np.ones(len(key), np.bool_)
    first[1:] = key[1:] != key[:-1]
    if policy is DuplicatePolicy.ERROR and not first.all():
        row = int(rows[order[int(np.flatnonzero(~first)[0])]])
        raise InvalidInput(
            f"worker {table.workers[table.worker[row]]} answered image {table.images[table.image[row]]} more than once",
            field="duplicates",
            reason="REPEATED_ANSWER",
            fix="keep one of the answers, or let the first or the last one count",
        )
    return rows[order[first]], int((~first).sum())


def _sets(
    rows: NDArray[np.int64], labels: NDArray[np.int32], chosen: NDArray[np.int64], total: int
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Label sets of the chosen rows; `rows` is ascending, labels ascending within a row."""
    order = np.argsort(rows, kind="stable")
    rows, labels = rows[order], labels[order]
    sizes = np.bincount(rows, minlength=total)
    start = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    picked = sizes[chosen]
    ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(picked)])
    where = np.repeat(start[chosen] - ptr[:-1], picked) + np.arange(int(ptr[-1]))
    return ptr, labels[where].astype(np.int32)


def _gold_labels(
    table: AnswerTable,
    item_image: NDArray[np.int32],
    number: Mapping[str, int],
    gold: Mapping[str, Sequence[str]],
    notes: list[str],
) -> NDArray[np.int32]:
    known = np.full(len(table.images), NO_GOLD, np.int32)
    strange: list[tuple[str, str]] = []
    for i, image in enumerate(table.images) if gold else ():
        labels = gold.get(image, ())
        if len(set(labels)) > 1:
            raise InvalidInput(
                f"gold image {image} has several labels, but images carry one label here",
                field="gold",
                reason="SEVERAL_LABELS",
                fix="aggregate with --multilabel",
            )
        if labels:
            known[i] = number.get(labels[0], NO_GOLD)
            strange += [(image, labels[0])] if known[i] == NO_GOLD else []
    notes.extend(_unused_gold(table, gold, strange))
    return known[item_image]


def _gold_sets(
    table: AnswerTable,
    item_image: NDArray[np.int32],
    number: Mapping[str, int],
    gold: Mapping[str, Sequence[str]],
    notes: list[str],
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    known = np.zeros((len(table.images), len(number)), np.bool_)
    has = np.zeros(len(table.images), np.bool_)
    strange: list[tuple[str, str]] = []
    for i, image in enumerate(table.images) if gold else ():
        if image in gold:
            unknown = [(image, label) for label in gold[image] if label not in number]
            strange += unknown
            has[i] = not unknown
            known[i, [number[label] for label in gold[image] if has[i]]] = True
    notes.extend(_unused_gold(table, gold, strange))
    return known[item_image], has[item_image]


def _unused_gold(
    table: AnswerTable, gold: Mapping[str, Sequence[str]], strange: Sequence[tuple[str, str]]
) -> Iterator[str]:
    """Notes on gold that says nothing: of a label outside the label space, and of images that have no answer."""
    if strange:
        image, label = strange[0]
        others = len({image for image, _ in strange}) - 1
        more = f", and {others:,} more such gold images" if others else ""
        yield f"gold image {image} has the label {label!r}, which is {UNKNOWN_CLASS}; it is not used{more}"
    if gold and not any(image in gold for image in table.images):
        yield f"none of {counted(len(gold), 'gold image')} has an answer, the first {next(iter(gold))}: other names?"
