# SPDX-License-Identifier: GPL-3.0-or-later
"""How many processors this process may use; the machine's number misleads in a container."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP_LIMIT = Path("/sys/fs/cgroup/cpu.max")


def processors(limit_file: Path = CGROUP_LIMIT) -> int:
    """At least 1: the smaller of the process's affinity and the whole processors of its cgroup's limit."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = limit_file.read_text().split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # another system, an old cgroup, or `max`
        return allowed
