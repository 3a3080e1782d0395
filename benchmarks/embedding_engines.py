# SPDX-License-Identifier: GPL-3.0-or-later
"""What each engine costs on this CPU, and how near its vectors are to those of eager float32.

    python benchmarks/embedding_engines.py [--models resnet50,mobilenet_v2,...] [--rounds 6] [--compile | --plain]

Random weights (seeded; speed does not depend on them), images of 224x224 with the spectrum of photographs, one thread.
CPU time of the process an image, the engines in turns in one run: median over the rounds. `--compile` adds
torch.compile, which takes a minute or more a model to start. `--plain` measures in their place what they are held
against: the network as torch gives it (no channels last, malloc as it is), and what one core can do at most, by
products of large matrices.
"""

from __future__ import annotations

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before NumPy and torch

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.models import get_model

from gandt.adapters import openvino_engine
from gandt.adapters.engine_choice import CPU_INFO, has_bf16
from gandt.adapters.heap import keep_freed_memory
from gandt.adapters.model_spec import NetworkCard, least_cosine, probe_images
from gandt.adapters.torch_engines import CompiledEngine, EagerEngine
from gandt.adapters.torchvision_zoo import own_preprocessing, remove_head
from gandt.ports.embedding_engine import EmbeddingEngine

MODELS = "resnet50,mobilenet_v2,mobilenet_v3_large,vit_b_16"


def main() -> None:
    """Prints a table for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain", action="store_true")
    args = parser.parse_args()
    if args.plain:
        torch.set_num_threads(1)
        plain(args.models.split(","), args.rounds)
        return
    keep_freed_memory()  # as the service does
    torch.set_num_threads(1)
    print("model, engine | start s | batch 1: CPU ms an image, times eager | batch 8: the same | least cosine")
    for name in args.models.split(","):
        measure(name, args.rounds, args.compile)


def measure(name: str, rounds: int, with_compile: bool) -> None:
    """One model in all engines, interleaved."""
    preprocessing, _ = own_preprocessing(name)
    side = preprocessing.height
    images = np.concatenate([probe_images(side, side), probe_images(side, side)[:, ::-1]])  # u8[8, S, S, 3]

    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        made = get_model(name, weights=None).eval().requires_grad_(False)
        remove_head(made)
        return made

    def openvino(dtype: str) -> EmbeddingEngine:
        graph = openvino_engine.convert(network(), NetworkCard(name, "", "", preprocessing), (side, side))
        return openvino_engine.OpenVinoEngine({(side, side): graph}, dtype, 1)

    makers: dict[str, Callable[[], EmbeddingEngine]] = {
        "eager float32": lambda: EagerEngine(network(), preprocessing),
        "openvino float32": lambda: openvino("float32"),
    }
    if has_bf16(CPU_INFO):
        makers["openvino bfloat16"] = lambda: openvino("bfloat16")
        if with_compile:
            makers["compile bfloat16"] = lambda: CompiledEngine(network(), preprocessing, "bfloat16")
    engines, starts, features = {}, {}, {}
    for label, make in makers.items():
        started = time.perf_counter()
        engines[label] = make()
        for size in (1, 8, 1, 8):
            features[label] = engines[label].run(images[:size])
        starts[label] = time.perf_counter() - started
    costs: dict[tuple[str, int], list[float]] = {(label, size): [] for label in engines for size in (1, 8)}
    for _ in range(rounds):
        for (label, size), cost in costs.items():
            cost.append(cpu_milliseconds(engines[label], images[:size]))
    base = {size: statistics.median(costs["eager float32", size]) for size in (1, 8)}
    for label in engines:
        cells = []
        for size in (1, 8):
            cost = statistics.median(costs[label, size])
            cells.append(f"{cost:.1f}, {base[size] / cost:.2f}")
        cosine = least_cosine(features["eager float32"], features[label])
        print(f"{name}, {label} | {starts[label]:.1f} | {' | '.join(cells)} | {cosine:.6f}", flush=True)


def plain(names: list[str], rounds: int) -> None:
    """The networks without anything of gandt, and the peak of a core."""
    print("network | batch 1: CPU ms an image | batch 8")
    with torch.inference_mode():
        for name in names:
            network = get_model(name, weights=None).eval()
            cells = []
            for size in (1, 8):
                x = torch.rand(size, 3, 224, 224)
                cells.append(f"{1e3 * cpu_seconds(partial(network, x), rounds) / size:.1f}")
            print(f"{name} | {' | '.join(cells)}", flush=True)
        side = 2048
        for dtype in (torch.float32, torch.bfloat16):
            one, other = (torch.randn(side, side).to(dtype) for _ in range(2))
            seconds = cpu_seconds(partial(torch.matmul, one, other), rounds)
            print(f"product of {side}x{side} matrices in {dtype}: {2e-9 * side**3 / seconds:.0f} GFLOP/s", flush=True)


def cpu_seconds(call: Callable[[], object], rounds: int) -> float:
    """Median CPU time of a call, after one that warms up."""
    call()
    taken = []
    for _ in range(rounds):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def cpu_milliseconds(engine: EmbeddingEngine, images: NDArray[np.uint8]) -> float:
    """CPU time an image of one run."""
    started = time.process_time()
    engine.run(images)
    return (time.process_time() - started) / len(images) * 1000


if __name__ == "__main__":
    main()
