# SPDX-License-Identifier: GPL-3.0-or-later
"""serve.json: written while a project is served, found by the CLI, never believed when stale."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from gandt_standalone import catalog, serve_file
from gandt_standalone.bootstrap import bootstrap
from gandt_standalone.serve_file import ServeInfo

from gandt.client.connection import connect
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, WrongState
from gandt.embedded import attach
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.runtime.service_settings import ServerSettings, ServiceSettings

SCRIPT = Path(__file__).parent / "toy_project.py"


def _run(project: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, str(SCRIPT), str(project)], stdout=pipe, stderr=pipe, text=True)


@contextmanager
def _served(project: Path) -> Iterator[subprocess.Popen[str]]:
    with _run(project) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
            yield process
        finally:
            process.kill()


def test_a_served_project_is_found_and_served_once(tmp_path: Path) -> None:
    assert attach.read(tmp_path) is None
    with _served(tmp_path) as process:
        info = attach.read(tmp_path)
        assert info is not None
        assert info.pid == process.pid
        assert stat.S_IMODE(serve_file.path_of(tmp_path).stat().st_mode) == 0o600
        with connect(info.endpoints["echo"], service="echo") as channel:
            assert channel.unary_unary("/gandt.echo.v1.EchoService/Echo")(b"x") == b"x"
        with _run(tmp_path) as second:
            _, complaint = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"PROJECT_IN_USE project {tmp_path} is in use by process {process.pid}" in complaint
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert not serve_file.path_of(tmp_path).exists()


def test_a_killed_server_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    with _served(tmp_path) as process:
        process.kill()
        process.wait(timeout=30)
    assert serve_file.path_of(tmp_path).exists()
    assert attach.read(tmp_path) is None
    with _served(tmp_path):
        assert attach.read(tmp_path) is not None


@pytest.mark.parametrize("in_the_way", [".gandt", ".gandt/serve.lock/folder/file"])
def test_a_project_that_cannot_be_written_to_is_named(tmp_path: Path, in_the_way: str) -> None:
    path = tmp_path / in_the_way
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    with pytest.raises(GandtError) as caught, serve_file.project_lock(tmp_path):
        pass
    assert caught.value.reason == "CANNOT_WRITE"
    assert str(tmp_path / ".gandt") in caught.value.message
    assert "--project" in caught.value.fix


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '"x"'])
def test_a_broken_file_is_ignored(tmp_path: Path, text: str) -> None:
    path = serve_file.path_of(tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    assert attach.read(tmp_path) is None


def test_a_reused_process_id_is_not_believed(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / ".gandt").mkdir()
    serve_file.write(tmp_path, ServeInfo(os.getpid(), "2026-01-01T00:00:00+00:00", {"echo": f"127.0.0.1:{port}"}))
    assert json.loads(serve_file.path_of(tmp_path).read_text())["pid"] == os.getpid()
    assert attach.read(tmp_path) is None


def test_a_port_that_somebody_else_took_is_not_believed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait(timeout=30)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        (tmp_path / ".gandt").mkdir()
        endpoint = f"127.0.0.1:{other.getsockname()[1]}"
        serve_file.write(tmp_path, ServeInfo(ended.pid, "2026-01-01T00:00:00+00:00", {"echo": endpoint}))
        assert attach.read(tmp_path) is None


class Toy(ServiceSettings):
    """Settings of a toy."""

    port: int = 50099


def _load(name: str) -> catalog.Service:
    def build(_: ServerSettings, peers: Peers) -> Application:
        if name == "broken":
            raise WrongState("its store is in use", kind="store", id="x")
        closed.append(f"built {name}")
        found[name] = peers
        return Application(name, close=lambda: closed.append(f"closed {name}"))

    return catalog.Service(name, Toy, build)


closed: list[str] = []
found: dict[str, Peers] = {}


def test_services_of_one_process_know_each_others_addresses(tmp_path: Path) -> None:
    standalone = bootstrap(tmp_path, names=["selection", "labeling"], arguments={"host": "0.0.0.0"}, load=_load)
    peers = found["selection"]
    assert peers.endpoint("selection") == "127.0.0.1:50099"
    assert peers.endpoint("labeling") == "http://127.0.0.1:50099"
    with pytest.raises(BackendUnavailable):
        peers.endpoint("embedding")
    assert [settings.data_dir for _, settings in standalone.served] == [tmp_path / ".gandt"] * 2
    standalone.peers.close()


def test_a_failed_bootstrap_closes_what_was_built(tmp_path: Path) -> None:
    closed.clear()
    with pytest.raises(WrongState):
        bootstrap(tmp_path, names=["one", "broken"], load=_load)
    assert closed == ["built one", "closed one"]


def test_unknown_services_are_named() -> None:
    with pytest.raises(InvalidInput, match="vectorsearch"):
        catalog.load("vector-search")
