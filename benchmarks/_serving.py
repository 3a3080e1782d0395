# SPDX-License-Identifier: GPL-3.0-or-later
"""A real service in a process of its own, for benchmarks."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gandt.client.connection import Channel, connect
from gandt.domain.errors import BackendUnavailable

START_SECONDS = 120


@dataclass(frozen=True)
class Service:
    """A running service.

    Attributes:
        channel: a connection to it.
        address: `host:port`.
        metrics_url: its page of metrics.
        process: it.
        answering: seconds from the start of its process to its first answer.
    """

    channel: Channel
    address: str
    metrics_url: str
    process: subprocess.Popen[bytes]
    answering: float


@contextlib.contextmanager
def serving(
    name: str, folder: Path, ask: Callable[[Channel], object], processor: int | None = None, **settings: object
) -> Iterator[Service]:
    """A new service that has answered once.

    Args:
        name: short name of the service.
        folder: its data folder.
        ask: a first call, repeated while the service warms up.
        processor: the one processor that it may use; None for all.
        settings: of the service, besides ports, folder and log level.
    """
    port, metrics_port = _free_port(), _free_port()
    given = {"PORT": port, "HEALTH_PORT": "", "METRICS_PORT": metrics_port, "DATA_DIR": folder, "LOG_LEVEL": "warning"}
    given |= {key.upper(): value for key, value in settings.items()}
    environment = os.environ | {f"GANDT_{name.upper()}__{key}": str(value) for key, value in given.items()}
    pinned = ["taskset", "--cpu-list", str(processor)] if processor is not None else []
    started = time.perf_counter()
    process = subprocess.Popen([*pinned, sys.executable, "-m", f"gandt_{name}"], env=environment)
    address = f"127.0.0.1:{port}"
    try:
        with connect(address, service=name, connect_seconds=START_SECONDS) as channel:
            while True:
                try:
                    ask(channel)
                    break
                except BackendUnavailable:  # it is warming up
                    if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                        raise
                    time.sleep(0.01)
            answering = time.perf_counter() - started
            yield Service(channel, address, f"http://127.0.0.1:{metrics_port}/metrics", process, answering)
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
