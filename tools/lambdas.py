# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the deployment packages of the Lambda functions, one archive a function, into `lambdas/dist/`.

The same source gives the same bytes, so that a deployment of unchanged code changes nothing.

    python tools/lambdas.py
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "lambdas" / "gandt_lambdas"
TARGET = ROOT / "lambdas" / "dist"
FUNCTIONS = ("pre_annotation", "annotation_consolidation")
MOST_BYTES = 1_000_000
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that an archive can hold


def build(target: Path) -> list[Path]:
    """Writes the archives.

    Raises:
        ValueError: one is larger than 1 MB.
    """
    target.mkdir(parents=True, exist_ok=True)
    return [_archive(name, target / f"{name}.zip") for name in FUNCTIONS]


def _archive(name: str, path: Path) -> Path:
    entry = zipfile.ZipInfo(f"{name}.py", _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(entry, (SOURCES / f"{name}.py").read_bytes())
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {MOST_BYTES:,}")
    return path


if __name__ == "__main__":
    for made in build(TARGET):
        sys.stdout.write(f"{made.relative_to(ROOT)}  {made.stat().st_size:,} bytes\n")
