# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs in the pods, against real processes: the keys of the first start, and the command of `helm test`."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.chart.checks import SERVICES
from tests.chart.rendering import CHART
from tests.processes import serving

FIRST_START = CHART / "files/first_start.py"
ROUND_TRIP = CHART / "files/round_trip.py"


def first_start(project: Path) -> Path:
    """Runs the init container's program for a project."""
    subprocess.run([sys.executable, FIRST_START, project / "gandt.toml"], check=True, capture_output=True)
    return project / "gandt.toml"


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """All services as the standalone pod runs them: beyond loopback, with the keys of the first start."""
    project = tmp_path_factory.mktemp("standalone")
    first_start(project)
    hosts = {f"GANDT_{name.upper()}__HOST": "0.0.0.0" for name in SERVICES}
    with serving(project, **hosts) as serve_json:
        found: dict[str, str] = json.loads(serve_json.read_text(encoding="utf-8"))["endpoints"]
        yield {name: address.replace("0.0.0.0", "127.0.0.1") for name, address in found.items()}


def round_trip(endpoints: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs the command of `helm test`."""
    variables = {f"GANDT_ENDPOINTS__{name.upper()}": address for name, address in endpoints.items()}
    return subprocess.run(
        [sys.executable, ROUND_TRIP], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


def test_keys_are_made_once_and_for_their_owner_alone(tmp_path: Path) -> None:
    path = first_start(tmp_path)
    made = path.read_text(encoding="utf-8")
    keys = tomllib.loads(made)
    assert keys["labeling"] == keys["jobcontroller"]
    assert len(keys["labeling"]["secret_access_key"]) > 30
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert first_start(tmp_path).read_text(encoding="utf-8") == made


def test_round_trip_passes_through_every_service(endpoints: Mapping[str, str]) -> None:
    done = round_trip({name: f"dns:///{a}" if name != "labeling" else a for name, a in endpoints.items()})
    assert done.returncode == 0, done.stderr
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == list(SERVICES)


def test_round_trip_says_which_service_is_away(endpoints: Mapping[str, str]) -> None:
    done = round_trip({**endpoints, "selection": "127.0.0.1:1"})
    assert done.returncode == 1
    assert "the selection service cannot be reached" in done.stderr
