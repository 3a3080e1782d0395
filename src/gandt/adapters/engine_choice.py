# SPDX-License-Identifier: GPL-3.0-or-later
"""Which engine runs a network on this machine, and in which number format (no torch unless a GPU may be there).

The choice follows from the machine and the network alone. Nothing is timed: a machine under load would choose
differently from day to day, and with the number format the vector space would change.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from gandt.adapters.model_spec import ENGINES, PRECISIONS, NetworkCard
from gandt.domain.errors import InvalidInput, WrongState

log = logging.getLogger(__name__)
BFLOAT16_COSINE = 0.9999
CPU_INFO = Path("/proc/cpuinfo")
_GPU_SIGNS = ("/dev/nvidiactl", "/dev/dxg")  # Linux; Linux below Windows
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
_EXTRAS = {"openvino": "openvino", "eager": "embedding", "compile": "embedding", "cuda": "embedding"}


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to run a network with.

    Attributes:
        gpu: the accelerator's name, or "".
        bf16: whether the CPU computes in bfloat16; without that it is slower than float32.
        torch, openvino: whether they are installed.
        compiler: whether there is a C++ compiler.
    """

    gpu: str = ""
    bf16: bool = False
    torch: bool = True
    openvino: bool = True
    compiler: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """What runs a network: the engine, its number format, and `cpu` or the GPU's name."""

    engine: str
    dtype: str
    device: str

    def describe(self) -> str:
        """As `ModelInfo.engine` says it."""
        return self.engine if self.dtype == "float32" else f"{self.engine} {self.dtype}"


def this_machine(device: str = "auto") -> Machine:
    """Looks around; imports torch only when a GPU is wanted or its driver is there."""
    has_torch = importlib.util.find_spec("torch") is not None
    return Machine(
        gpu=_gpu(device) if has_torch else "",
        bf16=has_bf16(CPU_INFO),
        torch=has_torch,
        openvino=importlib.util.find_spec("openvino") is not None,
        compiler=bool(os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")),
    )


def choose(engine: str, precision: str, device: str, machine: Machine) -> Choice:
    """The engine to use.

    Args:
        engine: `auto` or one of ENGINES.
        precision: `auto` or one of PRECISIONS.
        device: `auto`, `cpu` or `cuda`.
    Raises:
        InvalidInput: an unknown engine, or a number format that it cannot have here.
        WrongState: what it needs is not here.
    """
    if engine not in ("auto", *ENGINES):
        raise InvalidInput(
            f"engine {engine!r} is unknown",
            field="engine",
            reason="UNKNOWN_ENGINE",
            fix=f"use auto, {', '.join(ENGINES[:-1])} or {ENGINES[-1]}",
        )
    on_gpu = _on_gpu(engine, device, machine)
    if engine == "auto":
        engine = "cuda" if on_gpu else "openvino" if machine.openvino else "eager"
    installed = machine.openvino if engine == "openvino" else machine.torch
    if not installed:
        raise WrongState(
            f"engine {engine} needs {'openvino' if engine == 'openvino' else 'torch'}, which is not installed",
            kind="engine",
            id=engine,
            reason="ENGINE_NOT_INSTALLED",
            fix=f"pip install 'gandt[{_EXTRAS[engine]}]', or use another engine",
        )
    if engine == "compile" and not machine.compiler:
        raise WrongState(
            "engine compile needs a C++ compiler while it starts, and there is none",
            kind="engine",
            id=engine,
            reason="ENGINE_NEEDS_COMPILER",
            fix="install g++ or set CXX, or use engine openvino or eager",
        )
    return Choice(engine, _dtype(engine, precision, on_gpu, machine), machine.gpu if on_gpu else "cpu")


def settle(choice: Choice, precision: str, card: NetworkCard) -> Choice:
    """The choice once the network is known: `auto` keeps float32 where bfloat16 would bend the vectors."""
    if precision != "auto" or choice.dtype != "bfloat16" or card.bfloat16_cosine >= BFLOAT16_COSINE:
        return choice
    log.info(
        "%s computes in float32: in bfloat16 its vectors would have a cosine of %.4f to those of float32",
        card.architecture,
        card.bfloat16_cosine,
    )
    return replace(choice, dtype="float32")


def has_bf16(cpu_info: Path) -> bool:
    """Whether the processors have instructions for bfloat16, as Linux tells; elsewhere no."""
    try:
        text = cpu_info.read_text()
    except OSError:
        return False
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "")
    return bool(_BF16_FLAGS & set(flags.split()))


def _on_gpu(engine: str, device: str, machine: Machine) -> bool:
    wants = device == "cuda" or engine == "cuda"
    if device not in ("auto", "cpu", "cuda") or (wants and not machine.gpu) or (engine == "cuda" and device == "cpu"):
        missing = "cuda" if wants else device
        raise WrongState(
            f"device {missing} is not here", kind="device", id=missing, reason="NO_DEVICE", fix="use auto or cpu"
        )
    if wants and engine in ("openvino", "compile"):
        raise InvalidInput(
            f"engine {engine} computes on the CPU alone",
            field="device",
            reason="ENGINE_WITHOUT_DEVICE",
            fix="use engine cuda or eager for the GPU, or device cpu",
        )
    return bool(machine.gpu) and device != "cpu" and engine in ("auto", "cuda", "eager")


def _dtype(engine: str, precision: str, on_gpu: bool, machine: Machine) -> str:
    if precision not in ("auto", *PRECISIONS):
        raise InvalidInput(
            f"precision {precision!r} is unknown",
            field="precision",
            reason="UNKNOWN_PRECISION",
            fix="use auto, float32 or bfloat16",
        )
    native = engine != "eager" and (on_gpu or machine.bf16)
    if precision == "bfloat16" and not native:
        why = "computes in float32 alone" if engine == "eager" else "has no bfloat16 on this processor"
        raise InvalidInput(
            f"engine {engine} {why}", field="precision", reason="PRECISION_UNSUPPORTED", fix="use auto or float32"
        )
    return "bfloat16" if native and precision != "float32" else "float32"


def _gpu(device: str) -> str:
    """The accelerator's name, or ""; asking costs an import of torch, so it is asked only when there may be one."""
    signs = sys.platform == "win32" or any(Path(sign).exists() for sign in _GPU_SIGNS)
    if device == "cpu" or not signs:
        return ""
    import torch

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""
