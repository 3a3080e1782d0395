# SPDX-License-Identifier: GPL-3.0-or-later
"""What it costs to turn a JPEG into a network's pixels: scaled against full decoding, other decoders, other resizes.

All ways run in turn, round by round, in one thread; the figures are medians of CPU time.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial

import numpy as np
from _embedding import photos
from PIL import Image

from gandt.adapters.image_decode import ImageDecoder, fit
from gandt.domain.embedding import Preprocessing

NETWORK = Preprocessing(resize_side=256)
WHOLE = ImageDecoder(min_side=10_000)  # never scales
OURS = ImageDecoder()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    small, large = photos(1)[0], photos(1, 4000, 3000)[0]
    print(f"640x480: {len(small):,} bytes; 4000x3000: {len(large):,} bytes")
    big = medians({"full": partial(prepare, WHOLE, large), "scaled": partial(prepare, OURS, large)}, rounds)
    show("12 megapixels to 224x224", big)
    print(f"  scaled is {big['full'] / big['scaled']:.1f} times as fast")
    show("640x480 to 224x224", medians({"ours": partial(prepare, OURS, small)}, 4 * rounds))
    show("640x480, decoding alone", medians(decoders(small), 4 * rounds))
    show("640x480, resizing alone", medians(resizes(OURS.decode(small)), 4 * rounds))
    pools(photos(64) * 4)


def prepare(decoder: ImageDecoder, data: bytes) -> np.ndarray:
    """As a model does it."""
    return fit(decoder.decode(data), NETWORK)


def decoders(data: bytes) -> dict[str, Callable[[], object]]:
    """Those that are installed; they must give our pixels."""
    found: dict[str, Callable[[], object]] = {"Pillow": partial(OURS.decode, data)}
    expected = np.asarray(OURS.decode(data))
    if importlib.util.find_spec("torchvision"):
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg

        def torchvision() -> np.ndarray:
            encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            return decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()

        found["torchvision"] = torchvision
        print(f"torchvision differs in {np.abs(torchvision().astype(int) - expected).max()} of 255 at most")
    if importlib.util.find_spec("simplejpeg"):
        import simplejpeg

        slow = partial(simplejpeg.decode_jpeg, data, fastdct=False, fastupsample=False)
        found["simplejpeg"] = slow
        print(f"simplejpeg differs in {np.abs(slow().astype(int) - expected).max()} of 255 at most")
    return found


def resizes(image: Image.Image) -> dict[str, Callable[[], object]]:
    """The part that the model sees alone, the whole image, and torch's."""
    whole = partial(image.resize, (341, 256), Image.Resampling.BILINEAR)
    found: dict[str, Callable[[], object]] = {"ours": partial(fit, image, NETWORK), "Pillow, all of it": whole}
    if importlib.util.find_spec("torchvision"):
        import torch
        from torchvision.transforms.v2 import functional as F

        torch.set_num_threads(1)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # channels last in memory
        found["torch, all of it"] = partial(F.resize, tensor, [256, 341], antialias=True)
    return found


def pools(images: list[bytes]) -> None:
    """Threads against processes, in turn, on all processors."""
    count = os.cpu_count() or 1
    rates: dict[str, list[float]] = {"1 thread": [], f"{count} threads": [], f"{count} processes": []}
    with (
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(count) as threads,
        ProcessPoolExecutor(count) as processes,
    ):
        for _ in range(4):
            for name, pool in zip(rates, (one, threads, processes), strict=True):
                started = time.perf_counter()
                chunk = 8 if pool is processes else 1
                sum(1 for _ in pool.map(partial(prepare, OURS), images, chunksize=chunk))
                rates[name].append(len(images) / (time.perf_counter() - started))
    print("640x480 to 224x224 in images a second (wall time, best of 4):")
    for name, found in rates.items():
        print(f"  {name:24} {max(found):8.0f}")


def medians(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Milliseconds of CPU time of each way, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            started = time.thread_time()
            way()
            times[name].append(1000 * (time.thread_time() - started))
    return {name: float(np.median(found[1:])) for name, found in times.items()}


def show(title: str, figures: dict[str, float]) -> None:
    """One line a way."""
    print(f"{title}:")
    for name, milliseconds in figures.items():
        print(f"  {name:24} {milliseconds:8.2f} ms")


if __name__ == "__main__":
    main()
