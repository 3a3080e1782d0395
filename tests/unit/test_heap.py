# SPDX-License-Identifier: GPL-3.0-or-later
"""Freed memory stays with the process, in a process of its own: the setting lasts as long as that does."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import numpy as np
from gandt.adapters.heap import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(64 * 2**20, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

usual = [faults(), faults()][1]
assert keep_freed_memory()
kept = [faults(), faults()][1]
print(usual, kept)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc is told")
def test_a_second_run_gets_its_pages_without_faults() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    usual, kept = map(int, run.stdout.split())
    assert kept < 100
    assert usual >= kept
