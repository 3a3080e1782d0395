# SPDX-License-Identifier: GPL-3.0-or-later
"""Records of a snapshot file: a header, JSON, vectors and a checksum, each naming the generation before its own."""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gandt.adapters.fsync import sync

BEGIN, UPSERT, DELETE = 1, 2, 3
MAGIC = b"gtr1"
RECORD = struct.Struct("<4sIQQQQ")  # magic, kind, generation, the generation before, bytes of JSON, of vectors
CRC = struct.Struct("<I")


class Unproven(Exception):
    """Why a snapshot is not believed."""


def encoded(kind: int, generation: int, before: int, meta: dict[str, Any], matrix: Any) -> list[Any]:
    """A record as buffers: header, JSON, vectors, checksum."""
    text = json.dumps(meta, separators=(",", ":")).encode()
    header = RECORD.pack(MAGIC, kind, generation, before, len(text), matrix.nbytes)
    vectors = memoryview(matrix).cast("B") if matrix.size else b""
    crc = zlib.crc32(vectors, zlib.crc32(text, zlib.crc32(header)))
    return [header, text, vectors, CRC.pack(crc)]


def records(path: Path, length: int) -> Iterator[tuple[int, int, dict[str, Any], Any]]:
    """Kind, generation, JSON and vectors of each record of a file's first `length` bytes."""
    with path.open("rb") as file:
        at, last, dim = 0, -1, 0
        while at < length:
            header = file.read(RECORD.size)
            if len(header) < RECORD.size:
                raise Unproven(f"{path.name} is cut off")
            magic, kind, generation, before, text_bytes, vector_bytes = RECORD.unpack(header)
            size = RECORD.size + text_bytes + vector_bytes + CRC.size
            if magic != MAGIC or at + size > length:
                raise Unproven(f"{path.name} is damaged at byte {at}")
            body = file.read(text_bytes + vector_bytes + CRC.size)
            view = memoryview(body)
            if zlib.crc32(view[: -CRC.size], zlib.crc32(header)) != CRC.unpack(body[-CRC.size :])[0]:
                raise Unproven(f"{path.name} is damaged at byte {at}")
            if last >= 0 and before != last:
                raise Unproven(f"{path.name} lacks a change before generation {generation}")
            meta = json.loads(body[:text_bytes])
            dim = meta["dim"] if kind == BEGIN else dim
            rows = vector_bytes // (4 * dim)
            yield kind, generation, meta, np.frombuffer(body, "<f4", rows * dim, text_bytes).reshape(rows, dim)
            at, last = at + size, generation


def written(file: BinaryIO, parts: Sequence[Any]) -> int:
    """Writes all of them. Raises OSError also when only some fit."""
    total = 0
    for part in parts:
        rest = memoryview(part)
        while len(rest):
            done = file.write(rest)
            rest = rest[done:]
            total += done or 0
    return total


def write_atomically(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)
