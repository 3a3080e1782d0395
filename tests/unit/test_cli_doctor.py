# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt doctor`: each finding names what it looked at and what to do."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gandt.cli import doctor
from gandt.cli.main import main

FREE = {
    f"GANDT_{service}__PORT": "0"
    for service in ("EMBEDDING", "VECTORSEARCH", "SELECTION", "AGGREGATION", "JOBCONTROLLER", "LABELING")
}


@pytest.fixture(autouse=True)
def ports(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in FREE.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def findings(capsys: pytest.CaptureFixture[str], project: Path, status: int) -> dict[str, Any]:
    assert main(["doctor", "--project", str(project), "--json"]) == status
    return {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}


def test_a_fresh_folder_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(capsys, tmp_path, 0)
    assert {check["state"] for check in found.values()} == {"ok"}
    assert {"python", "libraries", "folder", "disk", "configuration", "model", "budget", "labeling"} <= set(found)
    assert not list(tmp_path.iterdir())


def test_a_wrong_configuration_is_a_finding_and_not_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gandt.toml").write_text("[labeling]\nprot = 1\n")
    found = findings(capsys, tmp_path, 1)
    assert found["configuration"]["state"] == "fail"
    assert "prot" in found["configuration"]["said"]
    assert "port" in found["configuration"]["fix"]
    assert found["python"]["state"] == "ok"


@pytest.mark.parametrize(
    ("weights", "state"),
    [("none.pth", "fail"), ("", "fail"), ("here.pth", "ok"), ("DEFAULT", "ok"), ("s3://bucket/w.pth", "ok")],
)
def test_weights_are_looked_for(
    weights: str, state: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.pth").write_bytes(b"x")
    (tmp_path / "gandt.toml").write_text(f'[embedding]\nmodel = "resnet50"\nweights = "{weights}"\n')
    found = findings(capsys, tmp_path, 0 if state == "ok" else 1)
    assert found["model"]["state"] == state
    assert (weights or "resnet50") in found["model"]["said"]


def test_a_port_in_use_is_told(
    tmp_path: Path, taken: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANDT_SELECTION__PORT", str(taken))
    found = findings(capsys, tmp_path, 0)
    assert found["selection"]["state"] == "warn"
    assert "GANDT_SELECTION__PORT" in found["selection"]["fix"]


def test_a_service_that_does_not_answer_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    (tmp_path / "gandt.toml").write_text(
        f'[endpoints]\nselection = "127.0.0.1:{port}"\nlabeling = "http://127.0.0.1:{port}"\n'
    )
    found = findings(capsys, tmp_path, 1)
    assert found["selection"]["state"] == found["labeling"]["state"] == "fail"
    assert str(port) in found["selection"]["said"]


def test_prices_without_a_budget_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gandt.toml").write_text("[project]\nprice_per_page_usd = 0.1\n")
    assert findings(capsys, tmp_path, 0)["budget"]["state"] == "warn"


@pytest.mark.parametrize(("free", "state"), [(10 << 30, "ok"), (1 << 30, "warn"), (1 << 20, "fail")])
def test_little_room_is_told(free: int, state: str) -> None:
    assert doctor.room(Path("somewhere"), free).state == state
