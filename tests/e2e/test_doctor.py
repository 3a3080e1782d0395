# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt doctor` beside a running `gandt serve`: every service answers, and an image can be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.under_fire import pictures
from tests.processes import gandt, serving


def findings(project: Path) -> dict[str, Any]:
    done = gandt("doctor", "--project", str(project), "--json")
    return {"status": done.returncode} | {check["name"]: check for check in json.loads(done.stdout)["checks"]}


def test_services_and_images_of_a_served_project(tmp_path: Path) -> None:
    pictures(tmp_path / "photos", 6, 2, seed=5)
    with serving(tmp_path):
        empty = findings(tmp_path)
        assert (empty["status"], empty["images"]["state"]) == (0, "warn")
        assert gandt("ingest", str(tmp_path / "photos"), "--project", str(tmp_path)).returncode == 0
        found = findings(tmp_path)
        assert found["status"] == 0
        for name in ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller"):
            assert found[name]["said"].endswith("is serving")
        assert found["labeling"]["said"].endswith("answers 200")
        assert found["images"]["state"] == "ok"
        for picture in (tmp_path / "photos").iterdir():
            picture.write_bytes(b"other")
        broken = findings(tmp_path)
        assert (broken["status"], broken["images"]["state"]) == (1, "fail")
