# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole loop while somebody kills the server: what the kill campaigns share.

The server is a real `gandt serve` that is ended with SIGKILL at random moments and started again on the same ports. The
workers live in the test, keep every receipt they got, and knock again until the server is back.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gandt.client.labeling_operator import create_invite
from gandt.client.labeling_portal import PortalClient
from gandt.domain.errors import BackendUnavailable, GandtError, WrongState
from gandt.domain.labeling.simulated_worker import SimWorker
from tests.conftest import free_port

T = TypeVar("T")
SERVICES = ("embedding", "vectorsearch", "selection", "aggregation", "jobcontroller", "labeling")
PATIENCE_SECONDS = 120.0


@dataclass
class Server:
    """`gandt serve` of one project on fixed ports, so that clients find it again after a kill."""

    project: Path
    ports: dict[str, int] = field(default_factory=dict)
    kills: int = 0
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.project / ".gandt").mkdir(parents=True, exist_ok=True)
        self.ports = {name: free_port() for name in SERVICES}

    def start(self) -> None:
        """Starts the server; it listens some seconds later."""
        fixed = {f"GANDT_{name.upper()}__PORT": str(port) for name, port in self.ports.items()}
        others = {f"GANDT_{n.upper()}__{kind}_PORT": "0" for n in SERVICES for kind in ("HEALTH", "METRICS")}
        with (self.project / "serve.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gandt", "serve", "--project", str(self.project)],
                env={**os.environ, **fixed, **others, "GANDT_LABELING__BATCH_SECONDS": "0.2"},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """SIGKILL: no handler, no flush, no goodbye."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.kills += 1

    def stop(self) -> None:
        """A normal end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(60)

    def url(self, name: str) -> str:
        """Where a service listens."""
        scheme = "http://" if name == "labeling" else ""
        return f"{scheme}127.0.0.1:{self.ports[name]}"


def insist(action: Callable[[], T]) -> T:
    """Does it again until the server is there; other errors are real."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return action()
        except GandtError as error:
            passing = isinstance(error, BackendUnavailable) or error.reason in ("CANCELLED", "DEADLINE_EXCEEDED")
            if not passing or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def killer(server: Server, seed: int, kills: int, done: threading.Event) -> threading.Thread:
    """A thread that kills and restarts the server at random moments."""
    moments = random.Random(seed)

    def run() -> None:
        for _ in range(kills):
            if done.wait(moments.uniform(1.0, 9.0)):  # a start takes some seconds: kills hit starts too
                return
            server.kill()
            server.start()

    thread = threading.Thread(target=run, name="killer", daemon=True)
    thread.start()
    return thread


@dataclass
class Workers:
    """Simulated workers who note what was acknowledged: labels by (image, worker id)."""

    server: Server
    crew: list[SimWorker]
    truth: dict[str, tuple[str, ...]]
    acknowledged: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    doubled: list[tuple[str, str]] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)

    def start(self, done: threading.Event) -> threading.Thread:
        """All of them in turn, in one thread, until it is done."""

        def run() -> None:
            try:
                self._work(done)
            except BaseException as error:  # noqa: BLE001  told in the test's own thread
                self.failures.append(error)

        thread = threading.Thread(target=run, name="workers", daemon=True)
        thread.start()
        return thread

    def _work(self, done: threading.Event) -> None:
        token = (self.server.project / ".gandt" / "labeling.token").read_text().strip()
        desks: list[tuple[SimWorker, PortalClient, str]] = []
        for worker in self.crew:
            invite = insist(lambda name=worker.name: create_invite(self.server.url("labeling"), token, name))[0]  # type: ignore[misc]
            client = PortalClient(self.server.url("labeling"), timeout_seconds=10)
            entered = insist(lambda c=client, i=invite: c.enter(i))  # type: ignore[misc]
            desks.append((worker, client, str(entered["worker"])))
        try:
            while not done.is_set():
                found = [self._page(*desk) for desk in desks]  # each in turn, so that pages overlap evenly
                if not any(found):
                    done.wait(0.1)
        finally:
            for _, client, _ in desks:
                client.close()

    def _page(self, worker: SimWorker, client: PortalClient, worker_id: str) -> bool:
        lease = insist(client.lease)
        if lease is None:
            return False
        form = worker.fill_form(lease.tiles, self.truth)
        try:
            insist(lambda: client.submit(lease.lease_id, form, 1.0))
        except WrongState:
            return True  # the lease ran out: nothing was acknowledged
        for tile in lease.tiles:
            key = (str(tile["id"]), worker_id)
            if key in self.acknowledged:
                self.doubled.append(key)
            if form[f"state-{tile['index']}"] == "answered":
                self.acknowledged[key] = tuple(json.loads(form[f"labels-{tile['index']}"]))
        return True


def pictures(folder: Path, count: int, wanted: int, seed: int) -> tuple[dict[str, str], dict[str, str]]:
    """Handwritten digits: threes, which are wanted, and others; gives truth and seeds by file name."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True, exist_ok=True)
    digits = load_digits()
    draw = np.random.default_rng(seed)
    threes = draw.permutation(np.flatnonzero(digits.target == 3))[:wanted]
    others = draw.permutation(np.flatnonzero(digits.target != 3))[: count - wanted]
    truth = {}
    for number, index in enumerate([*threes, *others]):
        name = f"picture-{number:03}.png"
        pixels = (255 - digits.images[index] * (255 / 16)).round().astype(np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(folder / name)
        truth[name] = "three" if number < wanted else "other"
    known = {n: t for i, (n, t) in enumerate(truth.items()) if i in (0, 1, wanted, wanted + 1, wanted + 2)}
    return truth, known
