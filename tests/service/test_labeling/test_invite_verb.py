# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt invite`: links that work, for a team and for names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gandt.cli.main import main


@pytest.fixture
def project(tmp_path: Path, service: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "gandt.toml").write_text("")
    (tmp_path / ".gandt").mkdir()
    monkeypatch.setenv("GANDT_ENDPOINTS__LABELING", service.url)
    monkeypatch.setenv("GANDT_ENDPOINTS__LABELING_TOKEN", (service.data_dir / "labeling.token").read_text())
    return tmp_path


def enter(service: Any, link: str) -> str:
    (invite,) = parse_qs(urlsplit(link).query)["invite"]
    reply = service.worker_class(service.url).call("POST", "/api/session", {"invite": invite})
    assert reply.status == 200
    return str(reply.json()["worker"])


def test_names_are_always_the_same_worker_and_a_team_link_is_not(
    service: Any, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["invite", "anna", "bert", "--project", str(project), "--json"]) == 0
    anna, bert = json.loads(capsys.readouterr().out)["invites"]
    assert (anna["name"], bert["name"]) == ("anna", "bert")
    assert enter(service, anna["link"]) == enter(service, anna["link"]) != enter(service, bert["link"])
    assert main(["invite", "--project", str(project)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "/work?invite=" in line]
    link = line.split()[-1]
    assert enter(service, link) != enter(service, link)


def test_without_a_server_it_says_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GANDT_ENDPOINTS__LABELING")
    assert main(["invite", "--project", str(project)]) == 7
    assert "gandt serve" in capsys.readouterr().err


def test_nobody_is_invited_to_another_backend(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GANDT_JOBCONTROLLER__BACKEND", "ground-truth")
    assert main(["invite", "--project", str(project)]) == 1
    assert "not in our labeling service" in capsys.readouterr().err
