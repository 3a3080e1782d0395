# SPDX-License-Identifier: GPL-3.0-or-later
"""How far long work has come; what streams report and progress bars show."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """One report of progress.

    Attributes:
        stage: what is being done now, as one word (scanning, fitting, ...).
        done: units finished.
        total: units in all; 0 when unknown.
    """

    stage: str
    done: int = 0
    total: int = 0
