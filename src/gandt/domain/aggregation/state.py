# SPDX-License-Identifier: GPL-3.0-or-later
"""The incremental state: everything a later call needs to go on, as one versioned block of bytes.

Magic, version, then compressed: the length of a JSON head, the head with names and sizes, and the columns one after
another. It holds the answers so far, what was known beside them, and the posteriors where the fit ended. The service
itself stores nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.answer_table import AnswerTable, AnswerTableBuilder, Limits
from gandt.domain.aggregation.incremental import Warm
from gandt.domain.aggregation.records import AggregateSpec, AnswerChunk
from gandt.domain.errors import GandtError, InvalidInput

MAGIC = b"GTAS"
VERSION = 2
MAX_STATE_BYTES = 1 << 31  # unpacked; a state is not trusted
AGAIN = "send all answers again without a state"


@dataclass(frozen=True, slots=True)
class State:
    """What an earlier call left.

    Attributes:
        method, named_classes, multi_label: as that call asked for; () when it named no classes.
        table: its answers.
        gold: known labels by image, and `drawn` those of them that were drawn at random.
        model: an image model's votes, as class names by image.
        warm: where its fit ended.
    """

    method: str
    named_classes: tuple[str, ...]
    multi_label: bool
    table: AnswerTable
    gold: Mapping[str, tuple[str, ...]]
    drawn: frozenset[str]
    model: Mapping[str, str]
    warm: Warm


def pack_state(state: State) -> bytes:
    """The state as bytes."""
    table, warm = state.table, state.warm
    columns: dict[str, NDArray[Any]] = {
        "image": table.image,
        "worker": table.worker,
        "job": table.job,
        "state": table.state,
        "previous": table.previous.astype(np.uint8),
        "label_count": np.diff(table.label_ptr).astype(np.int32),
        "label": table.label,
        "warm_image": warm.image,
        "warm_shown": warm.shown.astype(np.uint8),
        **{f"part{i}": part.astype(np.float32).ravel() for i, part in enumerate(warm.parts)},
    }
    if table.seconds is not None:
        columns["seconds"] = table.seconds
    head = {
        "method": state.method,
        "named_classes": state.named_classes,
        "multi_label": state.multi_label,
        "images": list(table.images),
        "workers": list(table.workers),
        "labels": list(table.labels),
        "jobs": list(table.jobs),
        "gold": {image: list(labels) for image, labels in state.gold.items()},
        "drawn": sorted(state.drawn),
        "model": dict(state.model),
        "fitted_method": warm.method,
        "fitted_classes": warm.classes,
        "fitted_votes": warm.fitted,
        "columns": [(name, column.dtype.newbyteorder("<").str, len(column)) for name, column in columns.items()],
    }
    text = json.dumps(head, ensure_ascii=True).encode()
    packer = zlib.compressobj(1)
    parts = [packer.compress(len(text).to_bytes(8, "little") + text)]
    parts += [packer.compress(c.astype(c.dtype.newbyteorder("<"), copy=False).tobytes()) for c in columns.values()]
    return b"".join([MAGIC, VERSION.to_bytes(2, "little"), *parts, packer.flush()])


def unpack_state(data: bytes, limits: Limits | None = None) -> State:
    """The state again.

    Raises:
        InvalidInput: not a state, one of another version, a damaged one, or one with more than the limits allow.
    """
    if data[:4] != MAGIC:
        raise InvalidInput(
            "the state is not one that this service returned", field="state", reason="BAD_STATE", fix=AGAIN
        )
    version = int.from_bytes(data[4:6], "little")
    if version != VERSION:
        raise InvalidInput(
            f"the state has version {version}, this service reads {VERSION}",
            field="state",
            reason="STATE_VERSION",
            fix=AGAIN,
        )
    try:
        return _unpacked(data, limits)
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as e:
        raise _damaged() from e
    except GandtError as e:
        if e.reason == "TOO_MUCH_DATA":
            raise
        raise _damaged() from e


def check_state(state: State, spec: AggregateSpec) -> None:
    """Raise InvalidInput when the call asks for something that the state does not go on from."""
    for name, before, now in (
        ("method", state.method, spec.method),
        ("several labels", state.multi_label, spec.multi_label),
        ("classes", state.named_classes, spec.classes),
    ):
        if before != now:
            told = [", ".join(value) or "none" if isinstance(value, tuple) else str(value) for value in (before, now)]
            raise InvalidInput(
                f"the state was made with {name} {told[0]}, this call asks for {told[1]}",
                field="state",
                reason="STATE_MISMATCH",
                fix=f"ask for the same as before, or {AGAIN}",
            )


def _damaged() -> InvalidInput:
    return InvalidInput("the state is damaged", field="state", reason="BAD_STATE", fix=AGAIN)


def _unpacked(data: bytes, limits: Limits | None) -> State:
    unpacker = zlib.decompressobj()
    body = memoryview(unpacker.decompress(data[6:], MAX_STATE_BYTES))
    if not unpacker.eof or unpacker.unused_data:
        raise ValueError("cut short, or more than a state")
    at = 8 + int.from_bytes(body[:8], "little")
    head = json.loads(bytes(body[8:at]))
    columns: dict[str, NDArray[Any]] = {}
    for name, dtype, length in head["columns"]:
        kind = np.dtype(dtype)
        columns[name] = np.frombuffer(body, kind, int(length), at).astype(kind.newbyteorder("="))
        at += kind.itemsize * int(length)
    if at != len(body):
        raise ValueError("columns")
    classes = tuple(map(str, head["fitted_classes"]))
    image = columns["warm_image"].astype(np.int32)
    parts = [columns[f"part{i}"].astype(np.float64) for i in range(sum(name.startswith("part") for name in columns))]
    names = {key: list(map(str, head[key])) for key in ("images", "workers", "labels", "jobs")}
    if len(image) and not 0 <= int(image.min()) <= int(image.max()) < len(names["images"]):
        raise ValueError("warm_image")
    if not all(np.isfinite(part).all() for part in parts) or columns["label_count"].min(initial=0) < 0:
        raise ValueError("numbers")
    return State(
        method=str(head["method"]),
        named_classes=tuple(map(str, head["named_classes"])),
        multi_label=bool(head["multi_label"]),
        table=_table(names, columns, limits),
        gold={str(k): tuple(map(str, labels)) for k, labels in head["gold"].items()},
        drawn=frozenset(map(str, head["drawn"])),
        model={str(k): str(label) for k, label in head["model"].items()},
        warm=Warm(
            str(head["fitted_method"]),
            classes,
            image,
            columns["warm_shown"].astype(np.bool_),
            [part.reshape(len(image), len(classes)) for part in parts],
            int(head["fitted_votes"]),
        ),
    )


def _table(
    names: Mapping[str, Sequence[str]], columns: Mapping[str, NDArray[Any]], limits: Limits | None
) -> AnswerTable:
    """The answers, checked as those of a caller are."""
    previous = columns["previous"].astype(np.bool_)
    builder = AnswerTableBuilder(limits)
    builder.add(
        AnswerChunk(
            new_images=names["images"],
            new_workers=names["workers"],
            new_labels=names["labels"],
            new_jobs=names["jobs"],
            images=columns["image"].astype(np.int64),
            workers=columns["worker"].astype(np.int64),
            label_counts=columns["label_count"].astype(np.int64),
            labels=columns["label"].astype(np.int64),
            states=columns["state"].astype(np.uint8),
            jobs=columns["job"].astype(np.int64),
            seconds=columns["seconds"].astype(np.float32) if "seconds" in columns else None,
        )
    )
    if len(previous) != builder.rows:
        raise ValueError("previous")
    return replace(builder.build(), previous=previous)
