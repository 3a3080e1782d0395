# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU seconds and peak memory of large pools: the filter and a round of find-more, against the original's path.

    python benchmarks/selection_scale.py original|compat|discard|find-more [--images 100000] [--dim 2048]

Vectors are random, not negative, float32; labels are ten, one of them Other. They come as Parquet shards of 10,000 from
a folder (made first, not measured), through the service's own use cases with 1 MiB of vectors resident, and every
decision or pick is read. `original` is the original's way: cdist in float64 over the whole pool, a named frame, SciPy's
trim_mean a label; reading is not counted for it. `compat` compares nothing: run both and divide. Memory is the
process's peak, of which Python with its libraries is about 120 MB.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from gandt_selection.intake import Sources
from gandt_selection.service import Selection
from numpy.typing import NDArray

from gandt.adapters.local_files import LocalFiles
from gandt.adapters.memory_clock import MemoryMeter
from gandt.adapters.parquet_vectors import ParquetVectors
from gandt.adapters.spooled_rows import SpooledRows
from gandt.adapters.system_clock import SystemClock
from gandt.domain.datasets import LabeledImage
from gandt.domain.progress import Progress
from gandt.domain.selection.records import FilterSpec, FilterSummary, InputChunk, PoolSource, SelectSpec
from gandt.domain.vectors import VectorSet
from gandt.ports.clock import NO_DEADLINE
from gandt.tables.vectors import write_vectors

SHARD = 10_000


def shard(number: int, rows: int, dim: int) -> NDArray[np.float32]:
    """float32[rows, dim], the same for the same number."""
    return np.random.Generator(np.random.Philox(number)).random((rows, dim), np.float32)


def labels_of(count: int) -> list[LabeledImage]:
    """Labeled images: their vectors are the first of the pool's shards."""
    names = ["Other", *(f"class{number}" for number in range(1, 10))]
    return [LabeledImage(f"image{row:09d}", (names[row % 10],)) for row in range(count)]


def original(images: int, labeled: int, dim: int) -> int:
    """Discards as the original did, everything in memory."""
    import pandas as pd
    from scipy.spatial.distance import cdist
    from scipy.stats import trim_mean

    pool = np.concatenate([shard(n, SHARD, dim) for n in range(images // SHARD)])
    known, pool = pool[:labeled], pool[labeled:]
    names = [image.labels[0] for image in labels_of(labeled)]
    begun = time.process_time()
    frame = pd.DataFrame(cdist(pool, known, "cosine"), columns=[str(row) for row in range(labeled)])
    means = {name: trim_mean(frame[[str(r) for r in range(labeled) if names[r] == name]], 0.1, axis=1) for name in
             sorted(set(names))}  # fmt: skip
    farther = sum((means[name] > means["Other"]).astype(int) for name in means)
    threshold = max(x for x in range(len(means)) if (farther > x).sum() >= 0.1 * len(pool))
    report(begun)
    return int((farther > threshold).sum())


def ours(kind: str, labeled: int, folder: Path) -> int:
    """The service's use case over Parquet shards."""
    store = LocalFiles(folder)
    sources = Sources(lambda _: ParquetVectors(store, "s3://bench/pool"), lambda uri: ParquetVectors(store, uri),
                      lambda: SpooledRows(1 << 20))  # fmt: skip
    service = Selection(sources, MemoryMeter(), SystemClock())
    pool = PoolSource(vectors_uri="s3://bench/pool")
    chunks: Iterator[InputChunk] = iter([InputChunk(labeled=tuple(labels_of(labeled)))])
    begun, read, count = time.process_time(), 0.0, 0
    if kind == "find-more":
        spec = SelectSpec(pool, kind, ("class1",), "Other", count=200)
        count = sum(len(report) for report in service.select(spec, chunks, NO_DEADLINE) if isinstance(report, tuple))
    else:
        rule = {"min_proportion": 0.1} if kind == "compat" else {"discard_share": 0.5}
        for report_ in service.filter(FilterSpec(pool, **rule), chunks, NO_DEADLINE):  # type: ignore[arg-type]
            if isinstance(report_, Progress) and report_.stage == "scanning":
                read = read or time.process_time()
            elif isinstance(report_, FilterSummary):
                count = report_.discarded
        print(f"of which after the vectors were read {time.process_time() - read:.1f}", end="  ")
    report(begun)
    return count


def report(begun: float) -> None:
    """Prints what was spent since."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"CPU s {time.process_time() - begun:.1f}  peak memory {peak:,.0f} MB", flush=True)


def main() -> None:
    """Makes the shards in a process of their own, then measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("original", "compat", "discard", "find-more"))
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--labeled", type=int, default=500)
    parser.add_argument("--dim", type=int, default=2_048)
    parser.add_argument("--folder", type=Path, help="where shards lie or are made; default a temporary one")
    args = parser.parse_args()
    if args.kind == "original":
        print("discarded", original(args.images, args.labeled, args.dim))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        parts = folder / "bench" / "pool"
        if not parts.exists() and not (child := os.fork()):  # so that making them does not count as our memory
            parts.mkdir(parents=True)
            for number in range(args.images // SHARD):
                ids = [f"image{number * SHARD + row:09d}" for row in range(SHARD)]
                write_vectors(str(parts / f"{number:05d}.parquet"), VectorSet(ids, shard(number, SHARD, args.dim), "m"))
            os._exit(0)
        elif "child" in locals():
            os.waitpid(child, 0)
        print("discarded or picked", ours(args.kind, args.labeled, folder))


if __name__ == "__main__":
    main()
