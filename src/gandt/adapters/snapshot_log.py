# SPDX-License-Identifier: GPL-3.0-or-later
"""The open snapshot of one collection, and what is changed while it is written anew."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

from gandt.adapters.snapshot_records import written

PENDING_BYTES = 8 << 20  # of changes during a rewrite that stay in memory; more go to a file without a name


@dataclass(slots=True)
class SnapshotLog:
    """Not thread-safe: `resident_snapshot` holds its lock.

    Attributes:
        stem: of its files' names.
        number: of its file; each rewrite takes the next.
        generation: of the last change in it.
        length: bytes of the file that count.
        rows_missed: rows changed while there was no file.
        file: None while there is none.
        head: file descriptor of its head, -1 for none.
        rewriting: whether it is being written anew.
        gone: whether its collection was deleted or read again.
    """

    stem: str
    name: str
    dim: int
    model_id: str
    number: int = 0
    generation: int = 0
    length: int = 0
    rows_missed: int = 0
    file: BinaryIO | None = None
    head: int = -1
    rewriting: bool = False
    gone: bool = False
    _changes: IO[bytes] | None = None
    _failure: OSError | None = None  # why a change could not be kept

    def begin_rewrite(self, folder: Path) -> None:
        """Changes are kept from now on, in memory and then in `folder`."""
        self.rewriting, self.rows_missed, self._failure = True, 0, None
        self._changes = tempfile.SpooledTemporaryFile(PENDING_BYTES, dir=str(folder))  # noqa: SIM115 (end_rewrite)

    def keep(self, parts: Sequence[Any]) -> None:
        """A change during a rewrite. One that cannot be kept fails the rewrite, not the change."""
        try:
            for part in parts:
                if self._changes is not None:
                    self._changes.write(part)
        except OSError as error:
            self._failure = error

    def append_changes(self, file: BinaryIO) -> int:
        """Write what was kept behind a fresh table; how many bytes it was. Raises OSError also for what is missing."""
        if self._failure is not None:
            raise self._failure
        if self._changes is None:
            return 0
        changes = self._changes
        changes.seek(0)
        return sum(written(file, [chunk]) for chunk in iter(lambda: changes.read(1 << 20), b""))

    def end_rewrite(self) -> None:
        """Let go of what was kept."""
        if self._changes is not None:
            with contextlib.suppress(OSError):
                self._changes.close()
        self.rewriting, self._changes = False, None

    def close(self) -> None:
        """Let go of the files."""
        if self.file is not None:
            self.file.close()
            self.file = None
        if self.head >= 0:
            os.close(self.head)
            self.head = -1
