# SPDX-License-Identifier: GPL-3.0-or-later
"""Search through gRPC against a NumPy product and Milvus Lite: one thread each, one run, interleaved.

    python benchmarks/vectorsearch_search.py [--rows 100000] [--dim 512] [--cache DIR] [--without-lite]

A real server over loopback in a process of its own; Milvus Lite through pymilvus in this one. Vectors: 256 centers,
48 directions of variation within a center, noise; held-out queries; k 10. Building Milvus Lite's HNSW takes minutes;
with --cache its databases are kept there and used again.
"""

from __future__ import annotations

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy; the server inherits them
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import contextlib
import functools
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _serving import serving
from _timing import interleaved
from numpy.typing import NDArray

from gandt.client.connection import connect
from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.filters import Range
from gandt.domain.search_records import ItemSet, SearchAnswer, SearchOptions
from gandt.domain.vectors import VectorSet

K = 10
CLIENTS = 32
TURN = 5  # calls of one way at a time: each way finds the processor's caches as its own callers would
FILTERS = {"10 %": 100, "1 %": 10, "0.2 %": 2}  # kept: field `part` (0 to 999) below this
Matrix = NDArray[np.float32]
Search = Callable[[int], object]


def main() -> None:
    """Prints each figure of the issue with its ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--calls", type=int, default=60, help="timed calls of each kind")
    parser.add_argument("--cache", type=Path, help="folder that keeps Milvus Lite's databases")
    parser.add_argument("--without-lite", action="store_true")
    args = parser.parse_args()
    matrix, queries = vectors(args.rows, args.dim)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(
            serving(
                "vectorsearch",
                folder,
                lambda channel: VectorSearchClient(channel).list_collections(),
                approximate_above_rows=args.rows // 2,
            )
        )
        client, address = VectorSearchClient(service.channel), service.address
        fill(client, matrix)
        until_indexed(client, queries)
        ways: dict[str, Search] = {
            "numpy product + argpartition": lambda i: top(matrix @ queries[i]),
            "exact search": lambda i: client.search_vectors("c", queries[i], SearchOptions(K, exact=True)),
            "approximate search": lambda i: client.search_vectors("c", queries[i], SearchOptions(K)),
        }
        if not args.without_lite:
            cache = args.cache or folder
            for kind in ("FLAT", "HNSW"):
                lite = lite_of(cache, kind, matrix)
                ways[f"Milvus Lite {kind}"] = lambda i, lite=lite: lite.search(  # type: ignore[misc]
                    "c", [queries[i]], limit=K, output_fields=["id"]
                )
        p50 = interleaved(ways, args.calls, TURN, warm_up=3)
        print(f"\n{args.rows:,} x {args.dim}, k {K}, p50 of {args.calls} calls, {TURN} of each way in turn:")
        for name, seconds in p50.items():
            print(f"  {name:30s} {1e3 * seconds:9.2f} ms")
        numpy, exact, near = list(p50.values())[:3]
        line("exact p50, ms (at most 1.3 x numpy + 0.3)", 1e3 * exact, f"{1e3 * (1.3 * numpy + 3e-4):.2f}")
        if not args.without_lite:
            line("exact, times faster than Lite FLAT (20)", p50["Milvus Lite FLAT"] / exact)
            line("approximate, times faster than Lite HNSW (60)", p50["Milvus Lite HNSW"] / near)
        truth = [set(top(matrix @ query).tolist()) for query in queries[:100]]
        for name, options in (("exact", SearchOptions(K, exact=True)), ("approximate", SearchOptions(K))):
            line(f"recall, {name}", recall(client.search_vectors("c", queries[:100], options), truth))
        filtered(client, matrix, queries)
        batch = interleaved(
            {"batch": lambda _: client.search_vectors("c", queries[:100], SearchOptions(K, exact=True))}, 7, warm_up=1
        )
        line("batch of 100, queries a second, times single (5)", 100 / batch["batch"] * exact)
        for exactly in (True, False):
            one, many = throughput(address, queries, 1, exactly), throughput(address, queries, CLIENTS, exactly)
            what = "exact" if exactly else "approximate"
            line(f"{CLIENTS} clients, {what}, times one client (4)", many / one, f"{one:.0f} -> {many:.0f} a second")


def vectors(rows: int, dim: int, queries: int = 500) -> tuple[Matrix, Matrix]:
    """f32[rows, dim] and held-out f32[queries, dim], of length 1."""
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(256, dim)).astype(np.float32)
    bases = (rng.normal(size=(16, 48, dim)) / np.sqrt(48)).astype(np.float32)

    def draw(count: int) -> Matrix:
        chosen = rng.integers(0, len(centers), count)
        out = centers[chosen]
        for group, basis in enumerate(bases):
            own = np.flatnonzero(chosen % len(bases) == group)
            out[own] += rng.normal(size=(len(own), len(basis))).astype(np.float32) @ basis
        out += (0.3 * rng.normal(size=(count, dim))).astype(np.float32)
        return np.asarray(out / np.linalg.norm(out, axis=1, keepdims=True), np.float32)

    return draw(rows), draw(queries)


def fill(client: VectorSearchClient, matrix: Matrix) -> None:
    """Stores all rows; field `part` cuts them into thousandths."""
    client.create_collection("c", matrix.shape[1], "m")
    ids = [f"i{row:07d}" for row in range(len(matrix))]
    blocks = (
        ItemSet(
            VectorSet(ids[start : start + 1000], matrix[start : start + 1000], "m"),
            tuple({"part": row % 1000} for row in range(start, min(start + 1000, len(ids)))),
        )
        for start in range(0, len(ids), 1000)
    )
    began = time.perf_counter()
    client.upsert("c", blocks)
    print(f"stored in {time.perf_counter() - began:.0f} s", flush=True)


def until_indexed(client: VectorSearchClient, queries: Matrix) -> None:
    """Waits for the approximate index."""
    began = time.perf_counter()
    while client.search_vectors("c", queries[0]).exact:
        time.sleep(1)
    print(f"approximate index after another {time.perf_counter() - began:.0f} s", flush=True)


def lite_of(folder: Path, kind: str, matrix: Matrix) -> Any:
    """A pymilvus client of Milvus Lite with these vectors under an index (M 16, searched with Lite's default)."""
    from pymilvus import DataType, MilvusClient

    path = folder / f"lite-{kind.lower()}-{len(matrix)}x{matrix.shape[1]}.db"
    lite = MilvusClient(str(path))
    if not lite.has_collection("c"):
        began = time.perf_counter()
        schema = lite.create_schema(auto_id=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=matrix.shape[1])
        index = lite.prepare_index_params()
        index.add_index("vector", index_type=kind, metric_type="COSINE")
        lite.create_collection("c", schema=schema, index_params=index)
        for start in range(0, len(matrix), 1000):
            part = matrix[start : start + 1000]
            lite.insert("c", [{"id": f"i{start + row:07d}", "vector": vector} for row, vector in enumerate(part)])
        lite.flush("c")
        print(f"Milvus Lite {kind} built in {time.perf_counter() - began:.0f} s", flush=True)
    lite.load_collection("c")
    return lite


def top(scores: Matrix) -> NDArray[np.int64]:
    """The K best columns, best first."""
    best = np.argpartition(-scores, min(K, len(scores) - 1))[:K]
    return np.asarray(best[np.argsort(-scores[best])])


def recall(answer: SearchAnswer, truth: Sequence[set[int]]) -> float:
    """Share of the true neighbors that were found."""
    found = sum(
        len(true & {int(hit.image_id[1:]) for hit in hits.hits})
        for hits, true in zip(answer.results, truth, strict=True)
    )
    return found / sum(len(true) for true in truth)


def filtered(client: VectorSearchClient, matrix: Matrix, queries: Matrix) -> None:
    """Recall, fewest hits and p50 under filters."""
    parts = np.arange(len(matrix)) % 1000
    for share, below in FILTERS.items():
        rows = np.flatnonzero(parts < below)
        options = SearchOptions(K, condition=Range("part", lt=below))
        truth = [{int(rows[best]) for best in top(matrix[rows] @ query)} for query in queries[:100]]
        answer = client.search_vectors("c", queries[:100], options)
        search = functools.partial(client.search_vectors, "c", options=options)
        p50 = interleaved({"": lambda i, search=search: search(queries[i])}, 20, warm_up=3)  # type: ignore[misc]
        hits = min(len(one.hits) for one in answer.results)
        line(
            f"recall, filter keeps {share}", recall(answer, truth), f"hits at least {hits}, p50 {1e3 * p50['']:.2f} ms"
        )


def throughput(address: str, queries: Matrix, clients: int, exact: bool, seconds: float = 5.0) -> float:
    """Single searches a second of some clients, each with a channel and a thread of its own."""
    counts = [0] * clients
    ends_at = time.perf_counter() + seconds

    def work(number: int) -> None:
        with connect(address, service="vectorsearch") as channel:
            client = VectorSearchClient(channel)
            while time.perf_counter() < ends_at:
                query = queries[(number + clients * counts[number]) % len(queries)]
                client.search_vectors("c", query, SearchOptions(K, exact=exact))
                counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def line(what: str, value: float, beside: str = "") -> None:
    """One figure."""
    print(f"  {what:52s} {value:9.3f}  {beside}", flush=True)


if __name__ == "__main__":
    main()
