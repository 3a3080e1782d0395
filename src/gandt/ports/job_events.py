# SPDX-License-Identifier: GPL-3.0-or-later
"""News that a labeling job has changed its state, pushed by the backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class JobEvents(Protocol):
    """A hint and no more: the state itself is always read from the backend, so that news may come twice or never."""

    def wait(self) -> Sequence[str]:
        """Names of jobs with news; empty after some seconds without any.

        Raises:
            BackendUnavailable, PermissionDenied: the news cannot be read now.
        """
        ...

    def close(self) -> None:
        """End a wait that is under way, soon, and all later ones."""
        ...
