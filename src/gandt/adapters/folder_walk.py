# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything below a folder, and what of it cannot be read: one unreadable part never hides the rest."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from gandt.tables.paths import is_inside


class Odd(Enum):
    """What else than a file may stand in a folder."""

    BROKEN_LINK = 1
    LINK_OUT = 2
    NO_FILE = 3


@dataclass(frozen=True, slots=True)
class Seen:
    """A file, or what is in its place.

    Attributes:
        path: relative to the folder.
        stat: of a file that can be read.
        error: why it cannot be one.
    """

    path: Path
    stat: os.stat_result | None = None
    error: OSError | Odd | None = None


def walk(folder: Path, start: Path) -> Iterator[Seen]:
    """All files below `start`, which is `folder` or below it.

    A link to a folder is not followed: inside the folder its files are found in their own place, and one that leads
    out is told. What vanishes meanwhile, and a start that does not exist, is passed over.
    """
    refused: list[OSError] = []
    for place, folders, files in os.walk(start, onerror=refused.append):
        yield from _refused(refused, folder)
        for name in folders:
            path = os.path.join(place, name)  # noqa: PTH118  # os.path.islink, unlike pathlib, raises nothing
            if os.path.islink(path) and not is_inside(Path(path), folder):  # noqa: PTH114
                yield Seen(Path(path).relative_to(folder), error=Odd.LINK_OUT)
        for name in files:
            seen = _look(Path(place, name), folder)
            if seen is not None:
                yield seen
    yield from _refused(refused, folder)


def _refused(errors: list[OSError], folder: Path) -> Iterator[Seen]:
    while errors:
        error = errors.pop(0)
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            yield Seen(Path(os.fsdecode(error.filename)).relative_to(folder), error=error)


def _look(path: Path, folder: Path) -> Seen | None:
    name = path.relative_to(folder)
    try:
        facts = path.lstat()
        if stat.S_ISLNK(facts.st_mode):
            try:
                facts = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return Seen(name, error=Odd.BROKEN_LINK)
            if not is_inside(path, folder):
                return Seen(name, error=Odd.LINK_OUT)
    except FileNotFoundError:  # deleted since it was listed
        return None
    except OSError as error:
        return Seen(name, error=Odd.BROKEN_LINK if error.errno == errno.ELOOP else error)
    return Seen(name, facts) if stat.S_ISREG(facts.st_mode) else Seen(name, error=Odd.NO_FILE)
