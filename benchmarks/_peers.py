# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs crowd-kit in its own environment and brings its results back; without it the benchmarks say so and go on."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
PYTHON = Path(os.environ.get("GANDT_PEERS", "~/.cache/gandt/peers")).expanduser() / "bin" / "python"
Result = Mapping[str, np.ndarray]


def available() -> bool:
    """Whether the peers' environment is there; if not, says how to make it."""
    if PYTHON.exists():
        return True
    print(f"crowd-kit is left out: {PYTHON} is not there; benchmarks/README.md says how to make it")
    return False


def run(folder: Path, methods: Sequence[str]) -> None:
    """Fits every `*.npz` of the folder with the peer's methods; results lie beside, see `_crowd_kit.py`."""
    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    subprocess.run([PYTHON, HERE / "_crowd_kit.py", folder, *methods], check=True, env={**os.environ, **one_thread})


def result(folder: Path, name: str, method: str) -> Result | None:
    """`probability` f64[I, K], `seconds`, `iterations`, `memory` (MiB); None where the peer failed."""
    file = folder / f"{name}.{method}.npz"
    return np.load(file) if file.exists() else None
