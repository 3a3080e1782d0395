# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks run by torch: as they are, compiled for this processor, or on a GPU through recorded graphs."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gandt.adapters.model_spec import least_cosine, probe_images
from gandt.domain.embedding import Preprocessing
from gandt.ports.embedding_engine import OutOfDeviceMemory

log = logging.getLogger(__name__)
CPU_SIZES = (1, 2, 3, 4, 5, 6, 7, 8)
COMPILED_SIZES = (1, 8)  # each takes half a minute and more to compile
GPU_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
_CPU_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")
Rows = NDArray[np.float32]


class NormalizedNetwork(nn.Module):
    """A network that eats u8[N, H, W, 3] and gives f32[N, D]; the pixels become numbers where it computes.

    Args:
        dtype: number format that the network's own numbers have.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.network = network
        self.dtype = dtype
        self.scale = preprocessing.scale
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """See the class."""
        x = pixels.permute(0, 3, 1, 2).float()  # [N, 3, H, W], channels last in memory
        x = (x / self.scale - self.mean) / self.std
        features: torch.Tensor = self.network(x.to(self.dtype)).flatten(1).float()
        return features


class EagerEngine:
    """torch's own kernels in float32, on the CPU or a GPU.

    On the CPU a row is the same bit for bit whatever shares its batch: oneDNN picks other kernels for one image and
    for more than eight, so batches end at eight and a single image is computed twice.
    """

    name = "eager"
    dtype = "float32"
    batching: Literal["any", "split", "pad"] = "any"

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")
        self.sizes = CPU_SIZES if self._device.type == "cpu" else GPU_SIZES
        self._network = _placed(NormalizedNetwork(network, preprocessing), self._device)

    def run(self, pixels: NDArray[np.uint8]) -> Rows:
        """See `EmbeddingEngine.run`."""
        alone = len(pixels) == 1
        batch = torch.from_numpy(np.repeat(pixels, 2, axis=0) if alone else pixels)
        with torch.inference_mode(), _memory_told():
            return np.asarray(self._network(batch.to(self._device)).cpu().numpy()[: len(pixels)], dtype=np.float32)


class CompiledEngine:
    """torch.compile with frozen weights on the CPU. Each batch size is compiled when it first runs."""

    name = "compile"
    sizes = COMPILED_SIZES
    batching: Literal["any", "split", "pad"] = "split"

    def __init__(self, network: nn.Module, preprocessing: Preprocessing, dtype: str) -> None:
        self.dtype = dtype
        module = _placed(NormalizedNetwork(network, preprocessing), torch.device("cpu"))
        self._network: Any = torch.compile(module, dynamic=False, options={"freezing": True})

    def run(self, pixels: NDArray[np.uint8]) -> Rows:
        """See `EmbeddingEngine.run`."""
        reduced = torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bfloat16")
        with torch.no_grad(), reduced, _memory_told():  # freezing asks for no_grad, not for inference_mode
            return np.asarray(self._network(torch.from_numpy(pixels)).float().numpy(), dtype=np.float32)


@dataclass(slots=True)
class _Slot:
    """The fixed places of one batch shape: pixels and features on both sides, and what leads from one to the other."""

    host_pixels: torch.Tensor  # u8[N, H, W, 3], pinned
    pixels: torch.Tensor  # the same on the device
    features: torch.Tensor  # f32[N, D] on the device
    host_features: torch.Tensor  # the same, pinned
    graph: torch.cuda.CUDAGraph | None


class CudaEngine:
    """A GPU in bfloat16 or float32: channels last, a CUDA graph for each batch size, uint8 over the bus.

    Args:
        device: a CUDA device. The CPU works as well, without graphs and pinned memory; the tests use it.
    """

    name = "cuda"
    sizes = GPU_SIZES
    batching: Literal["any", "split", "pad"] = "pad"

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, dtype: str, device: torch.device | None = None
    ) -> None:
        self.dtype = dtype
        self._device = device or torch.device("cuda")
        self._on_gpu = self._device.type == "cuda"
        number = torch.bfloat16 if dtype == "bfloat16" else torch.float32
        self._network = _placed(NormalizedNetwork(network.to(number), preprocessing, number), self._device)
        self._slots: dict[tuple[int, ...], _Slot] = {}
        self._stream = torch.cuda.Stream(self._device) if self._on_gpu else None  # type: ignore[no-untyped-call]

        # One pool for all graphs: they never run at once, and features are copied out before the next one runs.
        self._pool: Any = torch.cuda.graph_pool_handle() if self._on_gpu else None

    def run(self, pixels: NDArray[np.uint8]) -> Rows:
        """See `EmbeddingEngine.run`."""
        with torch.inference_mode(), torch.cuda.stream(self._stream), _memory_told():
            try:
                slot = self._slots.get(pixels.shape) or self._prepare(pixels.shape)
                slot.host_pixels.numpy()[...] = pixels
                slot.pixels.copy_(slot.host_pixels, non_blocking=True)
                if slot.graph is None:
                    slot.features = self._network(slot.pixels)
                else:
                    slot.graph.replay()
                slot.host_features.copy_(slot.features, non_blocking=True)
                if self._stream is not None:
                    self._stream.synchronize()
            except torch.OutOfMemoryError:
                self._slots.pop(pixels.shape, None)
                if self._on_gpu:
                    torch.cuda.empty_cache()
                raise
            return slot.host_features.numpy().copy()

    def _prepare(self, shape: tuple[int, ...]) -> _Slot:
        pinned = torch.zeros(shape, dtype=torch.uint8, pin_memory=self._on_gpu)
        pixels = pinned.to(self._device, copy=True)
        # cuDNN measures its kernels once a shape; it must not do so while a graph is recorded.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=self.dtype != "float32"):
            for _ in range(3 if self._on_gpu else 1):
                features = self._network(pixels)
            graph, features = self._record(pixels) if self._on_gpu else (None, features)
        host = torch.zeros(features.shape, dtype=torch.float32, pin_memory=self._on_gpu)
        slot = _Slot(pinned, pixels, features, host, graph)
        self._slots[shape] = slot
        return slot

    def _record(self, pixels: torch.Tensor) -> tuple[torch.cuda.CUDAGraph | None, torch.Tensor]:
        torch.cuda.synchronize(self._device)
        graph = torch.cuda.CUDAGraph()
        try:
            # Decode threads may use the device as well; only this thread's calls are recorded.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                features = self._network(pixels)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            log.warning("this network cannot be recorded as a CUDA graph (%s); it runs without", str(error)[:200])
            return None, self._network(pixels)
        return graph, features


def bfloat16_cosine(network: nn.Module, preprocessing: Preprocessing) -> float:
    """The least likeness of a network's vectors in bfloat16 and in float32, in [-1, 1], on synthetic photographs."""
    module = NormalizedNetwork(network, preprocessing).eval()
    images = torch.from_numpy(probe_images(preprocessing.height, preprocessing.width))
    with torch.inference_mode():
        exact = module(images).numpy()
        with torch.autocast("cpu", torch.bfloat16):
            rounded = module(images).float().numpy()
    return least_cosine(exact, rounded)


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    placed: nn.Module = module.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


@contextmanager
def _memory_told() -> Iterator[None]:
    """Turns torch's errors about memory into the port's."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise OutOfDeviceMemory(str(error)) from error
    except RuntimeError as error:
        if any(sign in str(error) for sign in _CPU_OUT_OF_MEMORY):
            raise OutOfDeviceMemory(str(error)) from error
        raise
