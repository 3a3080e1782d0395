# SPDX-License-Identifier: GPL-3.0-or-later
"""`kill -9` of the real process while workers submit: every acknowledged answer is in the manifest, none twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PAGES = 12
SLOTS = 2
WORKERS = 3


class Process:
    """`python -m gandt_labeling` on a fixed port and data folder."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.log = (data_dir / "log").open("w")
        values = {"PORT": str(port), "METRICS_PORT": "0", "DATA_DIR": str(data_dir), "BATCH_SIZE": "3", **environment}
        self.environment = {**os.environ, **{f"GANDT_LABELING__{key}": value for key, value in values.items()}}
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gandt_labeling"], env=self.environment, stderr=self.log, stdout=self.log
        )

    def end(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(30)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def make(**environment: str) -> Process:
        made.append(Process(tmp_path, **environment))
        made[-1].start()
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)
        one.log.close()


def ready(url: str, worker_class: Any) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            if worker_class(url).call("GET", "/readyz").status == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the service does not start"
        time.sleep(0.05)


def insistent(worker: Any, method: str, path: str, body: Any) -> Any:
    """A client that repeats until it gets an answer."""
    deadline = time.monotonic() + 60
    while True:
        try:
            reply = worker.call(method, path, body)
        except OSError:  # refused, reset, or cut off in the middle
            reply = None
        if reply is not None and reply.status < 500:
            return reply
        assert time.monotonic() < deadline, "no answer for a minute"
        time.sleep(0.05)


@pytest.mark.parametrize("seed", [1])
def test_kills_lose_nothing(
    process: Callable[..., Process], service_at: Callable[..., Any], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    server = process()
    service = service_at(server.url, tmp_path)
    worker_class = service.worker_class
    ready(server.url, worker_class)
    service.upload("killed", pages=PAGES)
    service.sagemaker.create_labeling_job(**service.request("killed", slots=SLOTS))
    service.wait_for("killed", "InProgress")
    acknowledged: list[tuple[str, str, str]] = []
    failures: list[BaseException] = []

    workers = {name: service.worker(name) for name in (f"w{number}" for number in range(WORKERS))}

    def work(name: str) -> None:
        try:
            worker = workers[name]
            pause = random.Random(name)
            while True:
                reply = insistent(worker, "POST", "/api/leases", {})
                if reply.status == 204:
                    if insistent(worker, "GET", "/api/jobs", None).json()["jobs"]:
                        time.sleep(0.05)
                        continue
                    return
                lease = reply.json()
                answer = {f"labels-{tile['index']}": json.dumps([name]) for tile in lease["task"]["taskObject"]}
                time.sleep(pause.uniform(0.0, 0.2))
                path = f"/api/leases/{lease['lease']}/submit"
                done = insistent(worker, "POST", path, {"answer": answer, "active_s": 1})
                assert done.status == 200, done.body
                task = lease["task"]["taskObject"][0]["id"]
                acknowledged.append((name, task, json.dumps(answer)))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(name,)) for name in workers]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(chance.uniform(0.2, 1.0))
        server.end(signal.SIGKILL)
        server.start()
        ready(server.url, worker_class)
    for thread in threads:
        thread.join()
    assert not failures
    assert len(acknowledged) == PAGES * SLOTS
    service.wait_for("killed", "Completed", seconds=90)
    body = service.s3.get_object(Bucket="gandt", Key="out/killed/manifests/output/output.manifest")["Body"].read()
    kept = []
    for line in body.splitlines():
        value = json.loads(line)
        responses = value["labels"]["responses"]
        assert len({response["workerId"] for response in responses}) == len(responses) == SLOTS
        task = json.loads(value["source"])[0]["id"]
        for response in responses:
            name = json.loads(next(iter(response["annotation"].values())))[0]
            kept.append((name, task, json.dumps(response["annotation"])))
    assert sorted(kept) == sorted(acknowledged)
    server.end(signal.SIGTERM)
    assert server.process is not None
    assert server.process.returncode == 0, (tmp_path / "log").read_text()[-2000:]
