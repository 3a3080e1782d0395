# SPDX-License-Identifier: GPL-3.0-or-later
"""Memory of the embedding service over 50,000 images of mixed sizes, one in twenty of them broken.

    python benchmarks/embedding_memory.py [--images 50000] [--model hog|mobilenet_v2]

One stream to a server in a process of its own. Most images are small, so that it takes minutes; one in 500 has 12
megapixels. Every image has other bytes, so none comes from the cache, which is kept small enough to be full long before
the count begins. Growth is the slope of a line through the resident memory after each 1,000 images from the 5,000th on.
"""

from __future__ import annotations

import argparse
import io
import os

os.environ["OMP_NUM_THREADS"] = "1"  # the server inherits it

import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _embedding import mobilenet, photos, serving
from PIL import Image

from gandt.domain.embedding import ImageInput

STEP, FIRST = 1_000, 5_000
BROKEN_EVERY, LARGE_EVERY = 20, 500


def main() -> None:
    """Prints the memory on the way, the growth, and what became of good and broken images."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--model", choices=("hog", "mobilenet_v2"), default="hog")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = mobilenet(folder) if args.model == "mobilenet_v2" else {"model": "hog", "torch_threads": 1}
        with serving(folder, **settings, cache_bytes=8 * 2**20) as server:
            at, sizes, outcomes, began = list[int](), list[float](), Counter[str](), time.perf_counter()
            for done, result in enumerate(server.client.embed_stream(mixed(args.images)), 1):
                wanted = "broken" if result.sequence % BROKEN_EVERY == 7 else "good"
                outcomes[f"{wanted}, {'a vector' if result.vector is not None else 'refused'}"] += 1
                if done % STEP == 0:
                    at.append(done)
                    sizes.append(server.resident_bytes() / 1e6)
                    if done % (10 * STEP) == 0 or done in (STEP, FIRST):
                        print(
                            f"{done:7,} images  {sizes[-1]:7.1f} MB  {time.perf_counter() - began:6.0f} s", flush=True
                        )
    late = [n for n, count in enumerate(at) if count >= FIRST]
    slope = np.polyfit([at[n] / STEP for n in late], [sizes[n] for n in late], 1)[0]
    print(f"growth after the first {FIRST:,}: {slope:.3f} MB for 1,000 images (below 1)")
    print(f"largest {max(sizes):.1f} MB, at {FIRST:,} {sizes[late[0]]:.1f} MB, at the end {sizes[-1]:.1f} MB")
    for what, count in sorted(outcomes.items()):
        print(f"{what}: {count:,}")


def mixed(count: int) -> Iterator[ImageInput]:
    """JPEGs and PNGs of 24 to 900 pixels a side, some of 4000x3000; no two have the same bytes."""
    rng = np.random.default_rng(0)
    small = [encoded(rng, kind) for kind in ("JPEG", "PNG") for _ in range(150)]
    large = photos(2, 4000, 3000)
    for n in range(count):
        data = large[n % 2] if n % LARGE_EVERY == 11 else small[int(rng.integers(len(small)))]
        if n % BROKEN_EVERY == 7:
            data = data[: len(data) // 2]  # cut off
        yield ImageInput(str(n), data + n.to_bytes(4, "little"))  # decoders stop before what follows an image


def encoded(rng: np.random.Generator, kind: str) -> bytes:
    """A smooth picture of random size, most of them small."""
    width, height = (int(24 * 37.5 ** (rng.random() ** 2)) for _ in range(2))
    picture = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((width, height), 2)
    data = io.BytesIO()
    picture.save(data, kind)
    return data.getvalue()


if __name__ == "__main__":
    main()
