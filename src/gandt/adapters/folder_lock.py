# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose lock a folder is under: the process, where the system tells."""

from __future__ import annotations

import fcntl
from pathlib import Path

from gandt.domain.errors import WrongState


def in_use(folder: Path, owner: str = "") -> WrongState:
    """The error that a store in a folder is in use."""
    return WrongState(
        f"the vector store in {folder} is in use by another process" + (f" ({owner})" if owner else ""),
        kind="store",
        id=str(folder),
        state="in use",
        reason="IN_USE",
        fix="stop that process, or call its service instead (gandt serve, --endpoint)",
    )


def refuse_if_locked(file: Path, folder: Path) -> None:
    """Raise WrongState (IN_USE) when somebody holds the lock on a file; it is not taken."""
    try:
        opened = file.open("rb")
    except FileNotFoundError:
        return
    with opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise in_use(folder, _holder(file)) from None


def _holder(file: Path) -> str:
    """ "process N" of who holds the lock on a file; "" where the system does not tell."""
    try:
        inode = file.stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()  # 1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF
            if words[1:2] == ["FLOCK"] and words[5].rsplit(":", 1)[-1] == str(inode) and int(words[4]) > 0:
                return f"process {words[4]}"
    except (OSError, IndexError, ValueError):
        pass
    return ""
