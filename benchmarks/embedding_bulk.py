# SPDX-License-Identifier: GPL-3.0-or-later
"""`gandt embed` on a folder of 640x480 JPEGs against the model's bare forward pass on the same images.

    python benchmarks/embedding_bulk.py [--model mobilenet_v2|hog] [--engine eager] [--threads 1] [--images 400]

Both in turn in one process. Of the command what its summary says, so without loading the model. The bare pass gets
pixels that were decoded and resized before.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from _embedding import mobilenet, photos

from gandt.cli.main import main as gandt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mobilenet_v2", "hog"), default="mobilenet_v2")
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--threads", type=int, default=1, help="of the model; decoding takes all processors")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = mobilenet(folder) if args.model == "mobilenet_v2" else {"model": "hog"}
        settings |= {"torch_threads": args.threads} | ({"engine": args.engine} if args.model != "hog" else {})
        for key, value in settings.items():
            os.environ[f"GANDT_EMBEDDING__{key.upper()}"] = str(value)
        images = photos(args.images)
        (folder / "photos").mkdir()
        for n, data in enumerate(images):
            (folder / "photos" / f"{n:06}.jpg").write_bytes(data)
        forward = bare(images)
        pairs = [(forward(), bulk(folder, n)) for n in range(args.rounds)]
    alone, command = (np.median([pair[i] for pair in pairs], axis=0) for i in (0, 1))
    print(f"{args.model}, {args.engine}, {args.threads} thread(s) of the model, {args.images} JPEGs of 640x480")
    print(f"  bare forward pass  {alone[0]:8.1f} images/s  {1000 * alone[1]:6.2f} ms of CPU time an image")
    print(f"  gandt embed        {command[0]:8.1f} images/s  {1000 * command[1]:6.2f} ms")
    print(f"  of the bare rate   {command[0] / alone[0]:8.2f}           {alone[1] / command[1]:6.2f}")


def bare(images: list[bytes]):
    """What runs the model alone: images a second, and CPU seconds an image."""
    from gandt_embedding.bootstrap import load_model, open_images
    from gandt_embedding.settings import Settings

    settings = Settings()
    model = load_model(settings, open_images(settings, "s3://weights/none"))
    prepared = [model.prepare(data) for data in images]
    size = settings.max_batch

    def run() -> tuple[float, float]:
        started, used = time.perf_counter(), time.process_time()
        for start in range(0, len(prepared), size):
            model.embed(prepared[start : start + size])
        seconds = time.perf_counter() - started
        return len(prepared) / seconds, (time.process_time() - used) / len(prepared)

    run()
    return run


def bulk(folder: Path, number: int) -> tuple[float, float]:
    """The same of the command; its CPU time less that of a dry run, which loads the model."""
    command = ["embed", str(folder / "photos"), "-o", str(folder / f"vectors{number}"), "--json", "--quiet"]
    used = [time.process_time()]
    for more in (["--dry-run"], []):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            assert gandt([*command, *more]) == 0
        used.append(time.process_time())
    summary = json.loads(said.getvalue())
    return summary["images_per_second"], ((used[2] - used[1]) - (used[1] - used[0])) / summary["images"]


if __name__ == "__main__":
    main()
