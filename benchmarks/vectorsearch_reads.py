# SPDX-License-Identifier: GPL-3.0-or-later
"""Scan, fetch and near-duplicates through gRPC against pymilvus on Milvus Lite: one thread each, one run, interleaved.

    python benchmarks/vectorsearch_reads.py [--rows 20000] [--wide-rows 5000]

A real server over loopback in a process of its own; Milvus Lite in this one, over the same vectors. Near-duplicates are
looked for among ROWS x 512 with 500 planted pairs (cosine about 0.98) at threshold 0.95; Milvus Lite's batched range
search (1,000 queries a call) is timed on one batch and multiplied by their number.
"""

from __future__ import annotations

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _serving import serving
from _timing import interleaved
from numpy.typing import NDArray

from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.vectors import VectorSet

Matrix = NDArray[np.float32]
PLANTED = 500
BATCH = 1000
THRESHOLD = 0.95


def main() -> None:
    """Prints each figure of the issue with its ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of dim 512")
    parser.add_argument("--wide-rows", type=int, default=5_000, help="rows of dim 2048")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        service = stack.enter_context(
            serving("vectorsearch", folder, lambda c: VectorSearchClient(c).list_collections())
        )
        client = VectorSearchClient(service.channel)
        for rows, dim in ((args.rows, 512), (args.wide_rows, 2048)):
            matrix, pairs = planted(rows, dim)
            ids = [f"i{row:06d}" for row in range(rows)]
            name = f"d{dim}"
            client.create_collection(name, dim, "m")
            client.upsert(name, VectorSet(ids, matrix, "m").blocks(1000))
            lite = lite_of(folder / f"{name}.db", ids, matrix)
            print(f"\n{rows:,} x {dim}")
            compared(client, lite, name, ids)
            if dim == 512:
                near_duplicates(client, lite, name, ids, matrix, pairs)
            lite.close()


def compared(client: VectorSearchClient, lite: Any, name: str, ids: list[str]) -> None:
    """Whole scans with vectors, and fetches of 100 ids."""
    rng = np.random.default_rng(5)
    wanted = [[ids[row] for row in rng.choice(len(ids), 100, replace=False)] for _ in range(50)]
    scan = interleaved(
        {
            "scan": lambda _: sum(len(block) for block in client.scan(name)),
            "pymilvus query_iterator": lambda _: iterated(lite),
        },
        3,
    )
    line("scan with vectors, rows/s", len(ids) / scan["scan"], len(ids) / scan["pymilvus query_iterator"], 10)
    fetch = interleaved(
        {
            "fetch": lambda i: client.fetch(name, wanted[i]),
            "pymilvus get": lambda i: lite.get("c", wanted[i], output_fields=["vector"]),
        },
        50,
        turn=5,
    )
    line("fetch of 100 ids, 1/s", 1 / fetch["fetch"], 1 / fetch["pymilvus get"], 10)


def near_duplicates(
    client: VectorSearchClient, lite: Any, name: str, ids: list[str], matrix: Matrix, pairs: set[tuple[str, str]]
) -> None:
    """All pairs at the threshold, and what the products alone take."""
    found: list[Any] = []

    def ours(_: int) -> None:
        found[:] = [client.find_near_duplicates(name, THRESHOLD, "pairs")]

    def batch(i: int) -> None:
        lite.search(
            "c",
            list(matrix[i * BATCH : (i + 1) * BATCH]),
            limit=100,
            search_params={"metric_type": "COSINE", "params": {"radius": THRESHOLD, "range_filter": 1.0}},
        )

    took = interleaved({"find": ours, "products": lambda _: products(matrix)}, 3)
    took |= interleaved({"one batch": batch}, 1)
    lite_seconds = took["one batch"] * len(ids) / BATCH
    line("near-duplicates, 1/s", 1 / took["find"], 1 / lite_seconds, 25)
    flops = len(ids) ** 2 * matrix.shape[1]
    speed = flops / took["products"] / 1e9
    print(f"  {took['find']:.2f} s; the products alone {took['products']:.2f} s ({speed:.0f} GFLOP/s)")
    seen = {(pair.first_id, pair.second_id) for pair in found[0].pairs}
    print(f"  planted pairs found: {len(pairs & seen)} of {len(pairs)}; exact: {found[0].exact}")


def products(matrix: Matrix, block: int = 1024) -> None:
    """The blocked products of all pairs, without looking at them."""
    for top in range(0, len(matrix), 4 * block):
        upper = matrix[top : top + 4 * block]
        for start in range(top, len(matrix), block):
            upper[: start + block - top] @ matrix[start : start + block].T


def planted(rows: int, dim: int) -> tuple[Matrix, set[tuple[str, str]]]:
    """f32[rows, dim] of length 1, and the pairs of ids of the planted near-duplicates."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(rows, dim)).astype(np.float32)
    chosen = rng.permutation(rows)[: 2 * PLANTED].reshape(-1, 2)
    matrix[chosen[:, 1]] = matrix[chosen[:, 0]] + 0.2 * rng.normal(size=(PLANTED, dim)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    first, second = chosen.min(axis=1).tolist(), chosen.max(axis=1).tolist()
    return matrix, {(f"i{a:06d}", f"i{b:06d}") for a, b in zip(first, second, strict=True)}


def iterated(lite: Any) -> int:
    """Rows that pymilvus' iterator gives, with their vectors."""
    iterator = lite.query_iterator("c", filter="", output_fields=["id", "vector"], batch_size=1000)
    rows = 0
    while page := iterator.next():
        rows += len(page)
    iterator.close()
    return rows


def lite_of(path: Path, ids: list[str], matrix: Matrix) -> Any:
    """A pymilvus client of a new Milvus Lite with these vectors, FLAT."""
    from pymilvus import DataType, MilvusClient

    lite = MilvusClient(str(path))
    schema = lite.create_schema(auto_id=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=matrix.shape[1])
    index = lite.prepare_index_params()
    index.add_index("vector", index_type="FLAT", metric_type="COSINE")
    lite.create_collection("c", schema=schema, index_params=index)
    for start in range(0, len(ids), 1000):
        part = zip(ids[start : start + 1000], matrix[start : start + 1000], strict=True)
        lite.insert("c", [{"id": image_id, "vector": vector} for image_id, vector in part])
    lite.flush("c")
    lite.load_collection("c")
    return lite


def line(what: str, ours: float, theirs: float, wanted: float) -> None:
    """One figure with the ratio to its peer."""
    print(
        f"  {what:32s} {ours:10,.2f}   pymilvus {theirs:10,.2f}   {ours / theirs:6.1f} x (at least {wanted:g})",
        flush=True,
    )


if __name__ == "__main__":
    main()
