# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps memory that a network frees for its next run, on glibc."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of malloc.h
_KEEP_BYTES = 2**30


def keep_freed_memory() -> bool:
    """Makes malloc keep what is freed, in one arena for all threads. Call it before threads are started.

    A network on the CPU allocates tens of megabytes for every layer and frees them at once. By default glibc hands
    such blocks back to the system each time, and the next run pays for every page again: half of the CPU time of
    mobilenet_v2 in batches of 8. The price is that the process stays as large as it once was.

    Returns:
        False where malloc cannot be told (another C library).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((_ARENA_MAX, 1), (_MMAP_THRESHOLD, _KEEP_BYTES), (_TRIM_THRESHOLD, _KEEP_BYTES))
    applied = [bool(mallopt(option, value)) for option, value in options]  # each, whatever the others said
    return all(applied)
