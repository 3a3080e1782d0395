# SPDX-License-Identifier: GPL-3.0-or-later
"""The real service on Milvus Lite, killed with SIGKILL while it writes: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from gandt.client.connection import connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.errors import BackendUnavailable, GandtError
from gandt.domain.search_records import ItemSet, SearchOptions, UpsertAck
from gandt.domain.vectors import VectorSet

DIM = 64
BLOCK = 50
IDS = 3000  # few enough that rounds replace each other's items
# Snapshots are written anew after each tenth of what lives in them, so that many kills fall into that.
SERVICE = """
import runpy
from gandt.adapters import resident_snapshot
resident_snapshot.SLACK_BYTES = -700_000
runpy.run_module("gandt_vectorsearch", run_name="__main__")
"""


def test_the_service_survives_kills(tmp_path: Path) -> None:
    campaign(tmp_path, rounds=3, seed=1)


@pytest.mark.soak
def test_the_service_survives_many_kills(tmp_path: Path) -> None:
    amid = campaign(tmp_path, rounds=int(os.environ.get("GANDT_SOAK_ROUNDS", "20")), seed=2)
    assert amid > 0, "no kill fell into the rewriting of a snapshot"


def test_sigterm_amid_upserts_loses_nothing_and_stops_in_time(tmp_path: Path) -> None:
    truth: dict[str, set[int]] = {}
    with serving(tmp_path, DRAIN_SECONDS=3) as (process, client):
        client.create_collection("c", DIM, "m")
        ids = [f"i{number:05d}" for number in range(100_000)]  # more than the drain time lets through
        generation = write_until(process, signal.SIGTERM, client, truth, ids, kill_after=5 * BLOCK, version=1)
        assert process.wait(3 + 10) == 0
    assert sum(versions == {1} for versions in truth.values()) >= 5 * BLOCK
    with serving(tmp_path) as (_, client):
        verify(client, truth, generation)


def campaign(folder: Path, rounds: int, seed: int) -> int:
    """Write, kill, start again and compare, `rounds` times; how many kills fell into the rewriting of a snapshot."""
    rng = random.Random(seed)
    truth: dict[str, set[int]] = {}  # id -> versions that may be stored; -1 is absent
    generation = 0
    aliases = {"c"}  # where the alias `live` may lead
    seconds: list[float] = []
    amid = 0
    for round_ in range(rounds):
        started = time.monotonic()
        with serving(folder) as (process, client):
            seconds.append(time.monotonic() - started)
            if round_ == 0:
                client.create_collection("c", DIM, "m", "live")
            generation = verify(client, truth, generation)
            aliases = check_alias(client, aliases)
            generation = delete_some(client, truth, rng, generation)
            switching = switch_until_killed(client, aliases, round_)
            ids = [f"i{number:05d}" for number in rng.sample(range(IDS), IDS)]
            kill_after = rng.randrange(1, IDS - 3 * BLOCK)
            generation = write_until(process, signal.SIGKILL, client, truth, ids, kill_after, round_ + 1, generation)
            switching.join()
        amid += is_rewriting(folder)
    with serving(folder) as (process, client):
        verify(client, truth, generation)
        check_alias(client, aliases)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    with serving(folder) as (_, client):  # and after a clean stop
        verify(client, truth, generation)
    report = " ".join(f"{each:.1f}" for each in seconds)
    print(f"kills amid a rewrite: {amid}; seconds from start to first answer: {report}")  # noqa: T201 (the soak's report)
    return amid


@contextmanager
def serving(folder: Path, **more: object) -> Iterator[tuple[subprocess.Popen[bytes], VectorSearchClient]]:
    """The service in a process of its own, and a client of it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    settings = {"PORT": port, "HEALTH_PORT": 0, "METRICS_PORT": 0, "DATA_DIR": folder, "FLUSH_ROWS": 700, **more}
    environment = {**os.environ, **{f"GANDT_VECTORSEARCH__{key}": str(value) for key, value in settings.items()}}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", SERVICE], env=environment, stderr=log)
    try:
        with connect(f"127.0.0.1:{port}", service="vectorsearch", connect_seconds=60) as channel:
            client = VectorSearchClient(channel)
            await_serving(client)
            yield process, client
    finally:
        process.kill()
        process.wait()


def await_serving(client: VectorSearchClient, seconds: float = 60) -> None:
    """Until the service has loaded its store; each refused call waits a little by gRPC's own retries."""
    ends_at = time.monotonic() + seconds
    while True:
        try:
            client.list_collections()
            return
        except BackendUnavailable:
            assert time.monotonic() < ends_at


def vector(image_id: str, version: int) -> list[float]:
    """What version of an image's vector looks like: recognizable in its first number."""
    return [float(version), *np.random.default_rng(int(image_id[1:])).normal(size=DIM - 1).tolist()]


def write_until(
    process: subprocess.Popen[bytes],
    how: signal.Signals,
    client: VectorSearchClient,
    truth: dict[str, set[int]],
    ids: list[str],
    kill_after: int,
    version: int,
    generation: int = 0,
) -> int:
    """Upserts blocks and stops the service after some acknowledgments, amid the next blocks; the last generation."""
    sent: list[str] = []
    stopped = False
    last = UpsertAck(0, 0, generation)

    def blocks() -> Iterator[ItemSet]:
        for start in range(0, len(ids), BLOCK):
            part = ids[start : start + BLOCK]
            sent.extend(part)
            for image_id in part:
                truth.setdefault(image_id, {-1}).add(version)
            matrix = np.array([vector(image_id, version) for image_id in part], np.float32)
            yield ItemSet(VectorSet(part, matrix, "m"), [{"version": version}] * len(part))

    def on_ack(ack: UpsertAck) -> None:
        nonlocal last, stopped
        last = ack
        if ack.acknowledged >= kill_after and not stopped:
            stopped = True
            process.send_signal(how)

    with pytest.raises(GandtError):
        client.upsert("c", blocks(), on_ack=on_ack)
    for image_id in sent[: last.acknowledged]:
        truth[image_id] = {version}
    return max(generation, last.generation)


def is_rewriting(folder: Path) -> bool:
    """Whether a snapshot of a stopped service has two files of rows: a new one and the one it was to replace."""
    stems = [path.name.split(".")[0] for path in (folder / "vectors" / "resident").glob("*.rows")]
    return len(stems) > len(set(stems))


def switch_until_killed(client: VectorSearchClient, aliases: set[str], round_: int) -> threading.Thread:
    """Makes collections and switches the alias to them, in a thread, until the service is gone."""

    def switch() -> None:
        with contextlib.suppress(GandtError):
            for number in range(1000):
                name = f"other_{round_}_{number % 2}"
                aliases.add(name)  # from here on it may lead there
                client.create_collection(name, 2, "m", "live")
                aliases.clear()
                aliases.add(name)

    thread = threading.Thread(target=switch)
    thread.start()
    return thread


def check_alias(client: VectorSearchClient, aliases: set[str]) -> set[str]:
    """The alias leads where it was last switched to, or where it was being switched to; never nowhere."""
    found = client.get_collection("live").name
    assert found in aliases
    return {found}


def delete_some(client: VectorSearchClient, truth: dict[str, set[int]], rng: random.Random, generation: int) -> int:
    present = sorted(truth)
    if not present:
        return generation
    gone = rng.sample(present, len(present) // 10)
    outcome = client.delete("c", gone)
    for image_id in gone:
        truth[image_id] = {-1}
    assert outcome.generation >= generation
    return outcome.generation


def verify(client: VectorSearchClient, truth: dict[str, set[int]], generation: int) -> int:
    """Everything acknowledged is there once, with the right vector and fields, and is found by search."""
    described = client.get_collection("c")
    assert described.generation >= generation
    stored: dict[str, int] = {}
    for block in client.scan_items("c"):
        for row, image_id in enumerate(block.ids):
            assert image_id not in stored
            version = int(block.vectors.matrix[row, 0])
            assert block.vectors.matrix[row].tolist() == np.array(vector(image_id, version), np.float32).tolist()
            assert block.fields[row] == {"version": version}
            stored[image_id] = version
    assert described.items == len(stored)
    assert set(stored) <= set(truth)
    for image_id, versions in truth.items():
        assert stored.get(image_id, -1) in versions
        truth[image_id] = {stored.get(image_id, -1)}
    if stored:
        some = sorted(stored)[:5]
        answer = client.search_ids("c", some, SearchOptions(k=1), include_self=True)
        assert [hits.hits[0].image_id for hits in answer.results] == some
    return described.generation
