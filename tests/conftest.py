# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for data that lies beside the repository and is never committed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("GANDT_SHARED_DIR", ROOT.parent / "shared"))


def golden_cases(name: str) -> list[Any]:
    """Cases of a golden file as pytest params."""
    path = ROOT / "tests" / "golden" / "cases" / f"{name}.json"
    return [pytest.param(case, id=case["name"]) for case in json.loads(path.read_text())["cases"]]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with weights, data and golden cases; skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the shared folder with weights and data is not here")
    return SHARED


def needs(program: str, reason: str) -> str:
    """Path of a program; without it the test skips with the reason, but in CI it fails."""
    found = shutil.which(program) or next(
        (str(p) for p in sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"))), None
    )
    if found is None:
        message = f"{program} is not here: {reason}"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    """A loopback port that is free now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server of our own: fresh data, loopback only, ended with the session."""
    initdb = needs("initdb", "PostgreSQL's server programs")
    pg_ctl = needs("pg_ctl", "PostgreSQL's server programs")
    home = Path("/tmp") / f"gandt-pg-{os.getpid()}"  # short: a unix socket's path has a limit
    home.mkdir(mode=0o700)
    runner: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = pwd.getpwnam("postgres")
        os.chown(home, user.pw_uid, user.pw_gid)
        runner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data, port = home / "data", free_port()
    quiet: dict[str, Any] = {"check": True, "stdout": subprocess.DEVNULL, "cwd": home}
    subprocess.run([*runner, initdb, "-D", str(data), "-A", "trust", "-U", "gandt", "--no-sync"], **quiet)
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={home} -c fsync=off"
    subprocess.run([*runner, pg_ctl, "-D", str(data), "-w", "-l", str(home / "log"), "-o", options, "start"], **quiet)
    try:
        yield f"postgresql+psycopg://gandt@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*runner, pg_ctl, "-D", str(data), "-m", "immediate", "stop"], **quiet)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> str:
    """URL of an empty database on the session's server."""
    import psycopg

    plain = postgres_url.replace("+psycopg", "")
    name = f"t{os.urandom(6).hex()}"
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres_url.rsplit("/", 1)[0] + f"/{name}"
