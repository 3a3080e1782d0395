# SPDX-License-Identifier: GPL-3.0-or-later
"""A vectors file in the making: parts in `NAME.parquet.parts/`, each written atomically, joined at the end.

A killed run leaves whole parts behind and the next one goes on from there. What was made by another model, or before
an image was changed, does not count.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import GandtError, WrongState
from gandt.domain.vectors import VectorSet
from gandt.tables.vectors import VectorsWriter, iter_vectors

PART_ROWS = 4_096
PART_SECONDS = 10.0  # at most this much work is lost
_OPEN_PARTS = 4
_WRITE_ROWS = 1_024


class VectorParts:
    """Collects vectors in any order. One process at a time; leaving the `with` block saves what was added.

    Args:
        output: the vectors file to be; ends in .parquet.
        model_id: fingerprint of the vectors.
        dim: numbers in a vector.
    Raises:
        WrongState: another process makes the same file.
        GandtError: the folder cannot be written.
    """

    def __init__(self, output: str, model_id: str, dim: int) -> None:
        self._output, self._model_id, self._dim = output, model_id, dim
        self.folder = Path(f"{output}.parts")
        self._done: dict[str, tuple[Path, int]] = {}
        self._times: dict[Path, float] = {}
        self._ids: list[str] = []
        self._rows: list[NDArray[np.float32]] = []
        self._flushed_at = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / ".lock").open("w")
        except OSError as error:
            raise _cannot_write(self.folder, error) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise WrongState(
                f"{output} is being made by another process",
                kind="file",
                id=output,
                reason="OUTPUT_IN_USE",
                fix="wait for it, or name another file with -o",
            ) from error
        self.foreign = 0
        self._find_parts()

    def has(self, image: str, changed_at: float) -> bool:
        """Whether the image has its vector, made after that time (seconds since 1970)."""
        place = self._done.get(image)
        return place is not None and self._times[place[0]] > changed_at

    def add(self, image: str, vector: NDArray[np.float32]) -> None:
        """Adds f32[D]; saved with the next part."""
        self._ids.append(image)
        self._rows.append(vector)
        if len(self._ids) >= PART_ROWS or time.monotonic() - self._flushed_at > PART_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last part."""
        self._flushed_at = time.monotonic()
        if not self._ids:
            return
        path = self.folder / f"part-{time.time_ns():020d}-{os.getpid()}.parquet"
        with VectorsWriter(str(path), self._dim, self._model_id) as writer:
            writer.write(self._ids, np.stack(self._rows))
        self._enter(path, self._ids)
        self._ids, self._rows = [], []

    def finish(self, images: Iterable[str]) -> int:
        """Writes the vectors of these images, in this order, as the output and removes the parts.

        Returns:
            Vectors written; images without one are left out.
        """
        self.flush()
        with VectorsWriter(self._output, self._dim, self._model_id) as writer:
            for ids, rows in self._blocks(images):
                writer.write(ids, np.stack(rows))
        shutil.rmtree(self.folder, ignore_errors=True)
        return writer.rows

    def _blocks(self, images: Iterable[str]) -> Iterator[tuple[list[str], list[NDArray[np.floating]]]]:
        loaded: OrderedDict[Path, VectorSet] = OrderedDict()
        ids: list[str] = []
        rows: list[NDArray[np.floating]] = []
        for image in images:
            if image not in self._done:
                continue
            path, row = self._done[image]
            if path not in loaded:
                loaded[path] = _whole(path)
                if len(loaded) > _OPEN_PARTS:
                    loaded.popitem(last=False)
            loaded.move_to_end(path)
            ids.append(image)
            rows.append(loaded[path].matrix[row])
            if len(ids) == _WRITE_ROWS:
                yield ids, rows
                ids, rows = [], []
        if ids:
            yield ids, rows

    def _find_parts(self) -> None:
        for path in sorted(self.folder.glob("part-*.parquet")):
            part = _whole(path)
            if part.model_id != self._model_id or part.dim != self._dim:
                self.foreign += 1
                path.unlink(missing_ok=True)
            else:
                self._enter(path, part.ids)
        for scratch in self.folder.glob(".part-*.tmp"):  # of a killed run; we hold the lock
            scratch.unlink(missing_ok=True)

    def _enter(self, path: Path, ids: Iterable[str]) -> None:
        self._times[path] = path.stat().st_mtime
        self._done.update((image, (path, row)) for row, image in enumerate(ids))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if self.folder.is_dir():
                self.flush()
                with contextlib.suppress(OSError):  # nothing was saved: leave nothing behind
                    if not any(self.folder.glob("part-*.parquet")):
                        shutil.rmtree(self.folder)
        finally:
            self._lock.close()


def _whole(path: Path) -> VectorSet:
    blocks = list(iter_vectors(str(path), PART_ROWS))
    ids = [image for block in blocks for image in block.ids]
    matrix = np.concatenate([block.matrix for block in blocks]) if blocks else np.zeros((0, 0), np.float32)
    return VectorSet(ids, matrix, blocks[0].model_id if blocks else "")


def _cannot_write(path: Path, error: OSError) -> GandtError:
    return GandtError(
        f"{path} cannot be written: {error.strerror or error}",
        reason="CANNOT_WRITE",
        fix="choose another place with -o, or free the disk",
    )
