# SPDX-License-Identifier: GPL-3.0-or-later
"""The incremental state: everything a later call needs to go on, as one versioned block of bytes.

It holds the answers so far (compressed columns), the gold labels and the posteriors as a warm start. A later call adds
its answers to those and fits again from the warm start; the service itself stores nothing.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.aggregation.answer_table import AnswerTable
from gandt.domain.aggregation.records import AnswerChunk
from gandt.domain.errors import InvalidInput

MAGIC = b"GTAS"
VERSION = 1
MAX_STATE_BYTES = 1 << 30  # unpacked; a state is not trusted
_COLUMNS = ("images", "workers", "label_counts", "labels", "states", "jobs", "previous", "posterior", "warm")


@dataclass(frozen=True, slots=True)
class State:
    """What an earlier call left.

    Attributes:
        chunks: its answers, those of earlier jobs apart.
        gold: known labels by image.
        classes: label space of `posteriors`, f64[K] by image.
    """

    chunks: Sequence[AnswerChunk]
    gold: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]
    posteriors: Mapping[str, NDArray[np.float64]]


def pack_state(
    table: AnswerTable,
    gold: Mapping[str, Sequence[str]],
    classes: Sequence[str],
    posteriors: Mapping[str, NDArray[np.float64]],
) -> bytes:
    """The state as bytes: magic, version, then compressed names (JSON) and columns (npz)."""
    place = {image: i for i, image in enumerate(table.images)}
    names = {
        "images": list(table.images),
        "workers": list(table.workers),
        "labels": list(table.labels),
        "jobs": list(table.jobs),
        "classes": list(classes),
        "gold": {image: list(labels) for image, labels in gold.items()},
    }
    columns = io.BytesIO()
    np.savez(
        columns,
        images=table.image,
        workers=table.worker,
        label_counts=np.diff(table.label_ptr).astype(np.int32),
        labels=table.label,
        states=table.state,
        jobs=table.job,
        previous=table.previous,
        posterior=np.array(list(posteriors.values()), np.float32).reshape(len(posteriors), len(classes)),
        warm=np.array([place[image] for image in posteriors], np.int32),
    )
    head = json.dumps(names, ensure_ascii=True).encode()
    body = len(head).to_bytes(8, "little") + head + columns.getvalue()
    return MAGIC + VERSION.to_bytes(2, "little") + zlib.compress(body, 1)


def unpack_state(data: bytes) -> State:
    """The state again.

    Raises:
        InvalidInput: not a state, one of another version, or a damaged one.
    """
    if data[:4] != MAGIC:
        raise InvalidInput("the state is not one that this service returned", field="state", reason="BAD_STATE")
    version = int.from_bytes(data[4:6], "little")
    if version != VERSION:
        raise InvalidInput(
            f"the state has version {version}, this service reads {VERSION}",
            field="state",
            reason="STATE_VERSION",
            fix="send all answers again without a state",
        )
    try:
        unpacker = zlib.decompressobj()
        body = unpacker.decompress(data[6:], MAX_STATE_BYTES)
        size = int.from_bytes(body[:8], "little")
        names = json.loads(body[8 : 8 + size])
        with np.load(io.BytesIO(body[8 + size :]), allow_pickle=False) as columns:
            return _state(names, {name: columns[name] for name in _COLUMNS})
    except (zlib.error, ValueError, KeyError, TypeError, IndexError, OSError, EOFError) as e:
        raise InvalidInput(
            "the state is damaged", field="state", reason="BAD_STATE", fix="send all answers again without a state"
        ) from e


def _state(names: Mapping[str, object], columns: Mapping[str, NDArray[np.generic]]) -> State:
    texts = {key: [str(name) for name in _list(names[key])] for key in ("images", "workers", "labels", "jobs")}
    previous = columns["previous"].astype(np.bool_)
    counts = columns["label_counts"].astype(np.int64)
    of_label = np.repeat(previous, counts)
    chunks: list[AnswerChunk] = []
    for earlier in (False, True):
        rows = previous == earlier
        first = not chunks
        chunks.append(
            AnswerChunk(
                new_images=texts["images"] if first else (),
                new_workers=texts["workers"] if first else (),
                new_labels=texts["labels"] if first else (),
                new_jobs=texts["jobs"] if first else (),
                images=columns["images"].astype(np.int64)[rows],
                workers=columns["workers"].astype(np.int64)[rows],
                label_counts=counts[rows],
                labels=columns["labels"].astype(np.int64)[of_label == earlier],
                states=columns["states"].astype(np.uint8)[rows],
                jobs=columns["jobs"].astype(np.int64)[rows],
                previous=earlier,
            )
        )
    gold = names["gold"]
    if not isinstance(gold, dict):
        raise ValueError("gold")
    posterior = columns["posterior"].astype(np.float64)
    return State(
        chunks,
        {str(image): tuple(str(label) for label in labels) for image, labels in gold.items()},
        tuple(str(name) for name in _list(names["classes"])),
        {texts["images"][int(i)]: posterior[row] for row, i in enumerate(columns["warm"].astype(np.int64))},
    )


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("names")
    return value
