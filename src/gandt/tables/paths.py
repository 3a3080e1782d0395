# SPDX-License-Identifier: GPL-3.0-or-later
"""Paths of files: as people see them, and where links lead."""

from __future__ import annotations

import os
from pathlib import Path


def shown(path: str | Path) -> str:
    r"""A path for people and messages: bytes that are not UTF-8 as `\xff`.

    >>> shown(Path("a\udcff.jpg")).encode()
    b'a\\xff.jpg'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, is in a folder; False for a loop of links."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False
