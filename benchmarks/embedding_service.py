# SPDX-License-Identifier: GPL-3.0-or-later
"""What the embedding service costs above the network's forward pass, and what cache hits gain.

    python benchmarks/embedding_service.py [--model mobilenet_v2|resnet50] [--rounds 6] [--images 96]

640x480 JPEGs streamed through gRPC to a real server in a process of its own. CPU time of the server's whole process an
image against CPU time of the bare forward pass an image (prepared floats, batches of 8, channels last, float32, one
thread) in processes of their own, taken in turns in one run. All of them run on processor 0 and the client on the
others: two threads on the two halves of one core would each count more CPU time, which says nothing of the work.
"""

from __future__ import annotations

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch; the server inherits it

import contextlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import safetensors.torch
import torch
import torchvision
from _embedding import MOBILENET, Server, mobilenet, photos, serving

from gandt.adapters.heap import keep_freed_memory
from gandt.domain.embedding import ImageInput

BATCH = 8
PROCESSOR = 0
NETWORKS: list[torch.nn.Module] = []  # of a process that runs the bare one


def main() -> None:
    """Prints both figures with the allowed ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("mobilenet_v2", "resnet50"), default="mobilenet_v2")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--images", type=int, default=96, help="of each round, a multiple of 8")
    args = parser.parse_args()
    images = photos(args.images)
    print(f"{args.model}, {len(images)} JPEGs of {sum(map(len, images)) / len(images) / 1000:.0f} KB, one thread")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = mobilenet(folder) if args.model == "mobilenet_v2" else random_resnet(folder)
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {PROCESSOR} or {PROCESSOR})
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(serving(folder, PROCESSOR, **settings, cache_bytes=0))
            plain, kept = (stack.enter_context(bare(args.model, settings, kept)) for kept in (False, True))
            stream(server, images)
            rounds = []
            for _ in range(args.rounds):
                alone = [one.submit(forward, args.images).result() for one in (plain, kept)]
                rounds.append([*alone, stream(server, images)[0]])
        allowed = 1 / (0.85 if args.model == "mobilenet_v2" else 0.93)
        names = ("bare forward pass", "the same, malloc set as the service does", "service")
        for name, values in zip(names, zip(*rounds, strict=True), strict=True):
            show(f"{name}, CPU ms an image", 1e3 * statistics.median(values))
        for position, name in enumerate(names[:2]):
            ratios = [each[2] / each[position] for each in rounds]
            spread = f"rounds {min(ratios):.3f} to {max(ratios):.3f}"
            show(f"service / {name} (at most {allowed:.3f})", statistics.median(ratios), spread)
        if args.model == "mobilenet_v2":
            cached(folder, settings, images)


def cached(folder: Path, settings: dict[str, object], images: Sequence[bytes]) -> None:
    """Hits against misses, in images a second."""
    with serving(folder, **settings) as server:
        stream(server, images[:BATCH])
        _, miss = stream(server, images[BATCH:])
        hits = [stream(server, images[BATCH:]) for _ in range(5)]
    cpu, hit = (statistics.median(values) for values in zip(*hits, strict=True))
    show("cache hits / misses (at least 5)", miss / hit, f"{1 / miss:.0f} -> {1 / hit:.0f} images a second")
    show("cache hit, CPU ms an image", 1e3 * cpu)


def show(what: str, value: float, more: str = "") -> None:
    """One line of the output."""
    print(f"{what:78s} {value:8.3f}  {more}", flush=True)


def stream(server: Server, images: Sequence[bytes]) -> tuple[float, float]:
    """Seconds an image: CPU of the server, and wall."""
    cpu, began = server.cpu_seconds(), time.perf_counter()
    results = list(server.client.embed_stream(ImageInput(str(n), data) for n, data in enumerate(images)))
    wall = time.perf_counter() - began
    assert len(results) == len(images)
    assert not any(result.error for result in results)
    return (server.cpu_seconds() - cpu) / len(images), wall / len(images)


def bare(name: str, settings: dict[str, object], kept: bool) -> ProcessPoolExecutor:
    """A process with the network alone."""
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, spawn, build, (name, str(settings["weights"]), kept))


def build(name: str, weights: str, kept: bool) -> None:
    """Loads the network without its classifier into this process, on the server's processor."""
    os.sched_setaffinity(0, {PROCESSOR})
    if kept:
        assert keep_freed_memory()
    torch.set_num_threads(1)
    network = torchvision.models.get_model(name, weights=None, num_classes=1001 if weights == str(MOBILENET) else 1000)
    state = safetensors.torch.load_file(weights)
    network.load_state_dict(
        {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    )
    setattr(network, "fc" if name == "resnet50" else "classifier", torch.nn.Identity())
    NETWORKS.append(network.eval().to(memory_format=torch.channels_last))


def forward(images: int) -> float:
    """CPU seconds an image of the network alone."""
    (network,) = NETWORKS
    x = torch.rand(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        network(x)
        began = time.process_time()
        for _ in range(images // BATCH):
            network(x)
    return (time.process_time() - began) / images


def random_resnet(folder: Path) -> dict[str, object]:
    """Settings of resnet50 in float32 with seeded random weights: the cost does not depend on them."""
    torch.manual_seed(0)
    path = folder / "resnet50.safetensors"
    safetensors.torch.save_file(torchvision.models.resnet50(weights=None).state_dict(), str(path))
    return {**mobilenet(folder), "model": "resnet50", "weights": path, "weights_config": ""}


if __name__ == "__main__":
    main()
