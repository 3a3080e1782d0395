# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the services that `gandt serve` already runs for a project."""

from __future__ import annotations

from pathlib import Path

from gandt_standalone.serve_file import ServeInfo, read_live

__all__ = ["ServeInfo", "read"]


def read(project_dir: Path) -> ServeInfo | None:
    """The running server of a project; None when none runs. A file that a killed server left is ignored."""
    return read_live(project_dir)
