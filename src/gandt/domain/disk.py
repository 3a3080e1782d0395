# SPDX-License-Identifier: GPL-3.0-or-later
"""The one kind of trouble that neither waiting nor another request mends: a disk that is full or read-only.

Every store translates it to an error with one of two reasons, whatever its class. Services wait and go on by
themselves once there is space; a command that somebody looks at ends with the error after PATIENCE_SECONDS, because a
person has to act.
"""

from __future__ import annotations

import errno

from gandt.domain.errors import GandtError, WrongState

FULL, READ_ONLY = "DISK_FULL", "DISK_READ_ONLY"
REASONS = (FULL, READ_ONLY)
PATIENCE_SECONDS = 5.0  # a log that is rotated or a file that is deleted just now shall not end a command

FIX = {
    FULL: "free some space, then run it again; nothing acknowledged is lost",
    READ_ONLY: "make the file and its folder writable, then run it again; nothing acknowledged is lost",
}


def is_disk_trouble(error: GandtError) -> bool:
    """Whether somebody has to mend a disk before this can work."""
    return error.reason in REASONS


def disk_trouble(what: str, reason: str, cause: str, kind: str = "disk") -> WrongState:
    """The error for something that cannot be written now.

    Args:
        what: the file or folder, after its kind: "the job store /x/controller.db".
        reason: FULL or READ_ONLY.
        cause: in words: "the disk is full".
        kind: of object, for `WrongState.kind`.
    """
    state = "full" if reason == FULL else "read-only"
    return WrongState(
        f"{what} cannot be written: {cause}", kind=kind, id=what, state=state, reason=reason, fix=FIX[reason]
    )


def of_os_error(error: OSError, what: str) -> WrongState | None:
    """The error for a failed write of a file or folder; None when its disk is not the cause."""
    reason = {errno.ENOSPC: FULL, errno.EDQUOT: FULL, errno.EROFS: READ_ONLY}.get(error.errno or 0)
    if reason is None:
        return None
    return disk_trouble(what, reason, "the disk is full" if reason == FULL else "the disk is read-only")


def unwritable(error: OSError, what: str) -> WrongState:
    """The error for a file or folder of a store that cannot be made, whatever the cause."""
    return of_os_error(error, what) or disk_trouble(what, READ_ONLY, error.strerror or str(error))


def of_sqlite(said: str, what: str) -> WrongState | None:
    """The error for what SQLite says of a file that it cannot write; None when it says something else.

    Args:
        said: SQLite's message.
        what: the database, as in `disk_trouble`.
    """
    words = said.lower()
    if "unable to open database file" in words or "readonly database" in words:
        return disk_trouble(what, READ_ONLY, "it or its folder is read-only or gone", "database")
    if "disk is full" in words or "disk i/o error" in words:
        return disk_trouble(what, FULL, "the disk is full or failing", "database")
    return None
