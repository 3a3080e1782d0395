# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors of one request: in memory while they fit, else in a temporary file that is read in blocks.

The file is read with readinto into one buffer and never mapped, so its pages do not count as the service's memory. It
has no name, so nothing remains of it whatever happens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import WrongState


class SpooledRows:
    """Rows of one size and number format, that of the first block.

    Args:
        max_bytes: bytes in memory before everything moves to a file.
        folder: where the file goes; None takes the system's folder.
    """

    def __init__(self, max_bytes: int, folder: Path | None = None) -> None:
        self._max_bytes = max_bytes
        self._folder = folder
        self._parts: list[NDArray[np.floating]] = []
        self._file: BufferedRandom | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.float32)
        self._dim = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def dim(self) -> int:
        """Numbers in a row; 0 before the first."""
        return self._dim

    @property
    def is_in_file(self) -> bool:
        """Whether the rows have left memory."""
        return self._file is not None

    def append(self, matrix: NDArray[np.floating]) -> None:
        """Adds float[N, D].

        Raises:
            WrongState: the disk is full or cannot be written.
        """
        if not self._count:
            self._dim = int(matrix.shape[1])
            self._dtype = np.dtype(np.float16 if matrix.dtype == np.float16 else np.float32)
        block = np.ascontiguousarray(matrix, dtype=self._dtype)
        self._count += len(block)
        if self._file is None and self._count * self._dim * self._dtype.itemsize <= self._max_bytes:
            self._parts.append(block)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 (see close)
                for part in self._parts:
                    self._file.write(part.data)
                self._parts = []
            self._file.write(block.data)
        except OSError as error:
            raise WrongState(
                f"vectors cannot be kept in a temporary file: {error.strerror or error}",
                kind="folder",
                id=str(self._folder or tempfile.gettempdir()),
                reason="DISK_FULL",
                fix="free some space, or raise GANDT_SELECTION__MAX_RESIDENT_BYTES",
            ) from error

    def blocks(self, rows: int) -> Iterator[NDArray[np.floating]]:
        """All rows in order, at most `rows` at a time."""
        if self._file is not None:
            for start in range(0, self._count, rows):
                yield self._read(start, min(rows, self._count - start))
            return
        for part in self._parts:
            for start in range(0, len(part), rows):
                yield part[start : start + rows]

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.floating]:
        """Those rows, in the order asked for."""
        out = np.empty((len(rows), self._dim), self._dtype)
        if self._file is not None:
            for place in np.argsort(rows, kind="stable").tolist():  # forward through the file
                out[place] = self._read(int(rows[place]), 1)[0]
            return out
        start = 0
        for part in self._parts:
            here = np.flatnonzero((rows >= start) & (rows < start + len(part)))
            out[here] = part[rows[here] - start]
            start += len(part)
        return out

    def close(self) -> None:
        """Frees memory and file."""
        self._parts = []
        if self._file is not None:
            self._file.close()

    def _read(self, start: int, count: int) -> NDArray[np.floating]:
        assert self._file is not None  # callers looked
        block = np.empty((count, self._dim), self._dtype)
        self._file.seek(start * self._dim * self._dtype.itemsize)
        self._file.readinto(block.view(np.uint8).reshape(-1).data)
        return block
