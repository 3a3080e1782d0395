# SPDX-License-Identifier: GPL-3.0-or-later
"""Vector search as a store: upserts against the raw pymilvus client, the cost of fsync, memory, restarts.

    python benchmarks/vectorsearch_store.py [upsert|restart] [--dim 512] [--rows N]

Each side runs in a process of its own, one thread for products; upserts are interleaved batch by batch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np  # noqa: E402 (threads are read at import)
from _serving import serving  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from gandt.client.vectorsearch import VectorSearchClient  # noqa: E402
from gandt.domain.search_records import ItemSet  # noqa: E402
from gandt.domain.vectors import VectorSet  # noqa: E402

BATCH = 1000
RAW = """
import sys, time
import numpy as np
from gandt.adapters import milvus_client as milvus
from gandt.adapters.milvus_lite import NO_PINGS
path, dim = sys.argv[1], int(sys.argv[2])
from pymilvus import DataType
client = milvus.client_class()(path, grpc_options=NO_PINGS)
schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=512)
schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
index = client.prepare_index_params()
index.add_index("vector", index_type="FLAT", metric_type="COSINE")
client.create_collection("c", schema=schema, index_params=index)
client.release_collection("c")
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    matrix = np.random.default_rng(number).standard_normal((1000, dim), dtype=np.float32)
    ids = [f"image{number * 1000 + row:08d}" for row in range(1000)]
    start = time.perf_counter()
    client.upsert("c", [{"id": image_id, "vector": vector} for image_id, vector in zip(ids, matrix)])
    if number % 10 == 9:
        client.flush("c")
    print(time.perf_counter() - start, flush=True)
"""


def batch(number: int, dim: int) -> ItemSet:
    matrix: NDArray[np.float32] = np.random.default_rng(number).standard_normal((BATCH, dim), dtype=np.float32)
    return ItemSet(VectorSet([f"image{number * BATCH + row:08d}" for row in range(BATCH)], matrix, "m"))


@contextmanager
def service(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], VectorSearchClient, float]]:
    """The service, its client, and the seconds until it answered."""
    with serving("vectorsearch", folder, lambda c: VectorSearchClient(c).list_collections(), **settings) as running:
        yield running.process, VectorSearchClient(running.channel), running.answering


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


@contextmanager
def raw_client(folder: Path, dim: int) -> Iterator[subprocess.Popen[str]]:
    """A process with Milvus Lite alone, behind pymilvus: a line in is a batch, a line out its seconds."""
    process = subprocess.Popen(
        [sys.executable, "-c", RAW, str(folder / "raw.db"), str(dim)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline().strip() == "ready"
        yield process
    finally:
        process.kill()
        process.communicate()


def raw_batch(process: subprocess.Popen[str]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def measure_upsert(folder: Path, dim: int, rows: int) -> None:
    """Rows a second through our stream and through the raw client; then with fsync; memory of both at the end."""
    seconds: dict[str, list[float]] = {"raw client": [], "service": [], "service, fsync": []}
    with (
        raw_client(folder, dim) as raw,
        service(folder / "process") as (process, client, _),
        service(folder / "fsync", durability="fsync") as (_, synced, _),
    ):
        for each in (client, synced):
            each.create_collection("c", dim, "m")
        for number in range(rows // BATCH):
            seconds["raw client"].append(raw_batch(raw))
            items = batch(number, dim)
            for name, each in (("service", client), ("service, fsync", synced)):
                started = time.perf_counter()
                each.upsert("c", [items])
                seconds[name].append(time.perf_counter() - started)
        ours, theirs = resident_mb(process.pid), resident_mb(raw.pid)
    base = sum(seconds["raw client"])
    print(f"upsert, {rows:,} x {dim}, batches of {BATCH:,}:")
    for name, each in seconds.items():
        print(
            f"  {name:16} {rows / sum(each):8,.0f} rows/s, {base / sum(each):.2f} x raw, "
            f"median {1000 * statistics.median(each):.0f} ms a batch"
        )
    mb = rows * dim * 4 / 2**20
    print(
        f"memory after {rows:,} x {dim} ({mb:.0f} MiB raw): service {ours:.0f} MiB, Lite alone {theirs:.0f} MiB, "
        f"more: {(ours - theirs) / mb:.2f} x the raw vectors"
    )


def measure_restart(folder: Path, dim: int, rows: int) -> None:
    """Seconds from the start of the process to the first answer, and to the first acknowledged write."""
    with service(folder) as (process, client, _):
        client.create_collection("c", dim, "m")
        for number in range(rows // BATCH):
            client.upsert("c", [batch(number, dim)])
        process.kill()
    query = np.ones(dim, np.float32)
    for name, stop, drop in (
        ("after kill -9", signal.SIGTERM, False),
        ("after a clean stop", signal.SIGKILL, False),
        ("after kill -9, without snapshot", signal.SIGTERM, True),
    ):
        if drop:
            shutil.rmtree(folder / "vectors" / "resident")
        with service(folder) as (process, client, answering):
            started = time.perf_counter()
            assert len(client.search_vectors("c", query).results[0].hits) == 10
            answering += time.perf_counter() - started
            assert client.get_collection("c").items == rows
            client.upsert("c", [batch(0, dim)])  # stored already: nothing changes, yet it waits for the store
            writing = answering + time.perf_counter() - started
            process.send_signal(stop)
            process.wait()
        print(f"restart, {rows:,} x {dim}, {name}: answers after {answering:.2f} s, writes after {writing:.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["upsert", "restart"], help="default: all")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--rows", type=int, default=0)
    options = parser.parse_args()
    for what, measure, rows in (("upsert", measure_upsert, 30_000), ("restart", measure_restart, 100_000)):
        if options.what in (None, what):
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), options.dim, options.rows or rows)


if __name__ == "__main__":
    main()
