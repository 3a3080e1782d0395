# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for data that lies beside the repository and is never committed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GANDT_SHARED_DIR", ROOT.parent / "shared"))


def golden_cases(name: str) -> list[Any]:
    """Cases of a golden file as pytest params; one skipped param with the reason when the file is absent."""
    path = SHARED / "golden" / f"{name}.json"
    if not path.exists():
        return [
            pytest.param(None, marks=pytest.mark.skip(reason=f"golden cases are not here: shared/golden/{name}.json"))
        ]
    cases = json.loads(path.read_text())["cases"]
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with weights, data and golden cases; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder with weights and data is not here")
    return SHARED
