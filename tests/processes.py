# SPDX-License-Identifier: GPL-3.0-or-later
"""Real `gandt` processes for the end-to-end tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 60.0


def gandt(*arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs one gandt command to its end and keeps what it printed."""
    return subprocess.run(
        [sys.executable, "-m", "gandt", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def wait_for(condition: Callable[[], bool], seconds: float, process: subprocess.Popen[str] | None = None) -> None:
    """Polls until the condition holds; fails when time is up or the process has ended."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process is None or process.poll() is None, "the process ended early"
        assert time.monotonic() < deadline, f"nothing happened within {seconds} s"
        time.sleep(0.05)


@contextmanager
def serving(project: Path, **environment: str) -> Iterator[Path]:
    """`gandt serve` of all services on free ports for a fresh project; gives its serve.json."""
    (project / ".gandt").mkdir(parents=True, exist_ok=True)
    ports = {
        f"GANDT_{service}__{port}": "0"
        for service in ("EMBEDDING", "VECTORSEARCH", "SELECTION", "AGGREGATION", "JOBCONTROLLER", "LABELING")
        for port in ("PORT", "HEALTH_PORT", "METRICS_PORT")
    }
    serve_json = project / ".gandt" / "serve.json"
    with (project / "serve.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "gandt", "serve", "--project", str(project)],
            env={**os.environ, **ports, **environment},
            stderr=log,
            text=True,
        )
        try:
            wait_for(serve_json.exists, START_SECONDS, process)
            yield serve_json
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
