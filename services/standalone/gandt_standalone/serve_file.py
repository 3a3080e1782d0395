# SPDX-License-Identifier: GPL-3.0-or-later
"""`.gandt/serve.json`: how the CLI of a project finds the servers that already run for it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gandt.domain import disk
from gandt.domain.errors import GandtError, WrongState

STATE_DIR = ".gandt"
_ANSWER_SECONDS = 1.0


@dataclass(frozen=True)
class ServeInfo:
    """What `gandt serve` wrote.

    Args:
        pid: its process.
        started_at: RFC 3339, UTC.
        endpoints: service name -> `host:port`, or a URL for the labeling service.
        health: service name -> `host:port` of plaintext health.
        metrics: service name -> URL of the Prometheus page.
    """

    pid: int
    started_at: str
    endpoints: dict[str, str]
    health: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)


def path_of(project: Path) -> Path:
    """Where the file lies."""
    return project / STATE_DIR / "serve.json"


def write(project: Path, info: ServeInfo) -> None:
    """Replaces the file in one step, readable by its owner only.

    Raises:
        WrongState: the disk is full or read-only.
    """
    path = path_of(project)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(asdict(info), indent=2) + "\n", encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise disk.unwritable(error, str(path)) from error


def remove(project: Path, pid: int) -> None:
    """Deletes the file if that process wrote it."""
    info = parse(path_of(project))
    if info is not None and info.pid == pid:
        path_of(project).unlink(missing_ok=True)


def read_live(project: Path) -> ServeInfo | None:
    """The running server of a project; None when there is no file or nobody behind it."""
    info = parse(path_of(project))
    if info is None or not _lives(info.pid):
        return None
    return info if all(_answers(endpoint) for endpoint in info.endpoints.values()) else None


def parse(path: Path) -> ServeInfo | None:
    """The file's content; None when it is missing or was not written by us."""
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        known = {key: content[key] for key in ServeInfo.__dataclass_fields__ if key in content}
        return ServeInfo(**known)
    except (OSError, ValueError, TypeError, KeyError):
        return None


@contextlib.contextmanager
def project_lock(project: Path) -> Iterator[None]:
    """Held while a server or a run works on the project, so that two starts at once cannot both win.

    Raises:
        WrongState: another process serves this project; names it.
        GandtError: the project's folder cannot be written to.
    """
    state = project / STATE_DIR
    try:
        state.mkdir(parents=True, exist_ok=True)
        opened = (state / "serve.lock").open("a")
    except OSError as error:
        raise GandtError(
            f"{state.resolve()} cannot be written: {error.strerror or error}",
            reason="CANNOT_WRITE",
            fix="choose a folder that you may write to with --project DIR",
        ) from error
    with opened as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = (state / "serve.lock").read_text(encoding="utf-8").strip()
            raise WrongState(
                f"project {project.resolve()} is in use by {f'process {who}' if who else 'another process'}",
                kind="project",
                id=str(project),
                state="in use",
                reason="PROJECT_IN_USE",
                fix="wait for it or stop it; what gandt serve runs is found by the commands in this project",
            ) from None
        with contextlib.suppress(OSError):  # a full disk: then the process goes unnamed
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), str(os.getpid()).encode())
        yield


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(endpoint: str) -> bool:
    parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
    if not parts.hostname or not parts.port:
        return False
    try:
        with socket.create_connection((parts.hostname, parts.port), timeout=_ANSWER_SECONDS):
            return True
    except OSError:
        return False
