# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt serve NAME` as people and scripts use it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gandt.cli.main import main

GANDT = [sys.executable, "-m", "gandt"]


def _environment(folder: Path, **values: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GANDT_")}
    return {**kept, "XDG_CONFIG_HOME": str(folder / "none"), **values}


def test_one_service_needs_no_project(tmp_path: Path) -> None:
    environment = _environment(tmp_path, GANDT_AGGREGATION__HEALTH_PORT="0", GANDT_AGGREGATION__METRICS_PORT="")
    command = [*GANDT, "serve", "aggregation", "--port", "0", "--json"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline() or "{}")
            assert told["endpoints"]["aggregation"].startswith("127.0.0.1:")
            assert told["metrics"] == {}
            for address in (told["endpoints"]["aggregation"], told["health"]["aggregation"]):
                with grpc.insecure_channel(address) as channel:
                    request = health_pb2.HealthCheckRequest(service="gandt.aggregation.v1.AggregationService")
                    assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status == 1
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
    assert list(tmp_path.iterdir()) == [], "it keeps nothing, so it writes nothing"


def test_a_busy_port_exits_1(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        command = [*GANDT, "serve", "aggregation", "--port", port]
        environment = _environment(tmp_path)
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error PORT_IN_USE: aggregation cannot listen on 127.0.0.1:{port}: the port is in use",
        "  fix: stop the other process, or choose another port with --port N or GANDT_AGGREGATION__PORT",
    ]


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["agregation"], {}, "did you mean aggregation?"),
        (["--port", "5000"], {}, "--port needs the NAME"),
        (["aggregation"], {"GANDT_AGGREGATION__WORKER": "3"}, "did you mean workers?"),
        (["aggregation"], {"GANDT_AGGREGATION__PORT": "many"}, "GANDT_AGGREGATION__PORT"),
        (["aggregation", "--port", "70000"], {}, "less than or equal to 65535"),
    ],
)
def test_usage_errors_exit_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    variables: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["serve", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_all_services_need_a_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["serve"]) == 1
    assert "NO_PROJECT" in capsys.readouterr().err
