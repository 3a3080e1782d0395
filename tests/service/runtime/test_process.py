# SPDX-License-Identifier: GPL-3.0-or-later
"""A service as a real process: signals, exit codes, logs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gandt.client.connection import Channel, connect
from gandt.domain.errors import BackendUnavailable

SCRIPT = Path(__file__).parent / "echo_app.py"
SERVICE = "gandt.echo.v1.EchoService"


def _environment(**values: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GANDT_")}
    return {**kept, **{f"GANDT_ECHO__{key.upper()}": value for key, value in values.items()}}


@contextmanager
def _process(**settings: str) -> Iterator[tuple[subprocess.Popen[str], Channel, str]]:
    command = [sys.executable, str(SCRIPT)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=_environment(**settings), stdout=pipe, stderr=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().split()
            assert line, process.stderr.read() if process.stderr else ""
            with connect(line[0], service="echo") as channel:
                yield process, channel, line[1]
        finally:
            if process.poll() is None:
                process.kill()


def test_sigterm_lets_a_running_call_finish() -> None:
    with _process(drain_seconds="20") as (process, channel, health), ThreadPoolExecutor(1) as caller:
        watch = channel.unary_stream(f"/{SERVICE}/Count")(b"20000")
        first = next(watch)
        process.send_signal(signal.SIGTERM)
        with grpc.insecure_channel(health) as probe:
            statuses = health_pb2_grpc.HealthStub(probe).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
            assert next(each.status for each in statuses if each.status != 1) == 2, "NOT_SERVING while it drains"
        rest = caller.submit(lambda: sum(1 for _ in watch))
        assert first == b"0"
        assert rest.result(timeout=60) == 19_999
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    events = [line["event"] for line in lines]
    assert events.index("serving") < events.index("draining") < events.index("stopped")


def test_a_call_that_ignores_its_deadline_does_not_keep_the_process() -> None:
    with _process(drain_seconds="0.1") as (process, channel, _), ThreadPoolExecutor(1) as caller:
        watch = channel.unary_stream(f"/{SERVICE}/Count")(b"1000000000")
        next(watch)
        process.send_signal(signal.SIGINT)
        with pytest.raises(BackendUnavailable):
            caller.submit(lambda: sum(1 for _ in watch)).result(timeout=30)
        assert process.wait(timeout=20) == 0


def test_a_busy_port_ends_with_1_and_one_clear_line() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        done = subprocess.run(
            [sys.executable, str(SCRIPT)], env=_environment(port=port), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    line = json.loads(done.stderr.splitlines()[-1])
    assert line["reason"] == "PORT_IN_USE"
    assert port in line["error"]
    assert "--port" in line["fix"]
    assert "Traceback" not in done.stderr


def test_listening_everywhere_without_a_token_warns() -> None:
    with _process(host="0.0.0.0") as (process, _, __):
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        assert process.stderr is not None
        warnings = [line for line in map(json.loads, process.stderr) if line["level"] == "warning"]
    assert warnings
    assert warnings[0]["fix"] == "set GANDT_ECHO__TOKEN"
