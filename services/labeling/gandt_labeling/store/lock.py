# SPDX-License-Identifier: GPL-3.0-or-later
"""One labeling process per SQLite database: two engines would call each Lambda twice."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from gandt.domain.errors import PermissionDenied, WrongState


class StoreLock:
    """Held from construction to `close`, or to the end of the process however it ends.

    Args:
        path: a file of its own beside the database.
    Raises:
        WrongState: another process holds it (IN_USE).
        PermissionDenied: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file: IO[str] = path.open("a+")
        except OSError as error:
            raise PermissionDenied(
                f"{path} cannot be written: {error.strerror}", reason="DATA_DIR_READ_ONLY"
            ) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise WrongState(
                f"the labeling data in {path.parent} is in use by process {holder}",
                kind="store",
                id=str(path.parent),
                state="in use",
                reason="IN_USE",
                fix="stop that process, or let it do the work",
            ) from error
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def close(self) -> None:
        """Let go."""
        self._file.close()
