# SPDX-License-Identifier: GPL-3.0-or-later
"""Places that the system refuses to read, also when the tests run as root (Linux)."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

_VERSION_3 = 0x20080522
_READ_ALL = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: what lets root read anything


@contextlib.contextmanager
def refused(*places: Path) -> Iterator[None]:
    """Nobody may read these folders and files, and this thread (with threads that it starts) is nobody special."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs Linux capabilities")
    modes = {place: place.stat().st_mode for place in places}
    for place in places:
        place.chmod(0)
    before = _capabilities()
    now = (ctypes.c_uint32 * 6)(*before)
    now[0] &= ~_READ_ALL
    _set(now)
    try:
        yield
    finally:
        _set(before)
        for place, mode in modes.items():
            place.chmod(mode)


def _capabilities() -> ctypes.Array[ctypes.c_uint32]:
    """u32[6]: effective, permitted and inheritable, the low words first."""
    found = (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capget(_header(), found) != 0:
        pytest.skip("the system does not tell capabilities")
    return found


def _set(capabilities: ctypes.Array[ctypes.c_uint32]) -> None:
    assert ctypes.CDLL(None, use_errno=True).capset(_header(), capabilities) == 0


def _header() -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * 2)(_VERSION_3, 0)
