# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on the disk for certain, whatever happens to the power."""

from __future__ import annotations

import os
from pathlib import Path


def sync(path: Path) -> None:
    """The content of a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
