# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exit status of `gandt` means, and which error gives which."""

from __future__ import annotations

from gandt.domain import errors

DONE = 0
FAILED = 1
USAGE = 2
NOTHING = 3
PARTIAL = 4
UNREACHABLE = 5
REFUSED = 6
WAITING = 7
INTERRUPTED = 130

_BY_ERROR: tuple[tuple[type[errors.GandtError], int], ...] = (
    (errors.InvalidInput, USAGE),
    (errors.NotFound, USAGE),
    (errors.OverBudget, REFUSED),
    (errors.BackendUnavailable, UNREACHABLE),
    (errors.Overloaded, UNREACHABLE),
    (errors.DeadlineExceeded, UNREACHABLE),
)
_BY_REASON = {
    "NOTHING_TO_DO": NOTHING,
    "NO_IMAGES": NOTHING,
    "NEEDS_YES": REFUSED,
    "WAITING_FOR_PEOPLE": WAITING,
    "NEEDS_SERVER": WAITING,
    # The request was right, the data or the original's rule was not.
    "COMPAT_FAILED": FAILED,
}


def exit_code(error: errors.GandtError) -> int:
    """The exit status for an error; 1 unless the error says that something else would help."""
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), FAILED)
