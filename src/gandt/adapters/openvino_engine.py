# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks run by OpenVINO on the CPU: converted from torch, or read from files without it.

A converted network is two files, NAME.xml (the graph) and NAME.bin (its numbers). The graph holds what the network
is, and the SHA-256 of the numbers, so that the pair needs nothing else: it is what `gandt model export` writes and
what the cache of converted models keeps.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from gandt.adapters.model_spec import NetworkCard, least_cosine, probe_images
from gandt.domain.errors import CorruptData, GandtError, InvalidInput

if TYPE_CHECKING:
    from torch import nn

log = logging.getLogger(__name__)
SIZES = (1, 2, 4, 8)
_FORMAT = 1
_KEY = "gandt"
_WANTED = {"float32": "f32", "bfloat16": "bf16"}
_LEAST_COSINE = 0.999  # between the converted network and the original; measured are 0.99999 and more


class OpenVinoEngine:
    """Compiled networks, one for each image size.

    Args:
        graphs: OpenVINO's models by (height, width).
        dtype: `float32` or `bfloat16`.
        threads: of one run.
    """

    name = "openvino"
    sizes = SIZES
    batching: Literal["any", "split", "pad"] = "split"

    def __init__(self, graphs: dict[tuple[int, int], Any], dtype: str, threads: int) -> None:
        self.dtype = dtype
        options = {
            "INFERENCE_PRECISION_HINT": _WANTED[dtype],  # the default would be whatever the processor is fast at
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "ENABLE_CPU_PINNING": False,  # other threads of this process and machine want the processors too
        }
        core = openvino().Core()
        self._compiled = {size: core.compile_model(graph, "CPU", options) for size, graph in graphs.items()}
        self._requests = {size: compiled.create_infer_request() for size, compiled in self._compiled.items()}

    def run(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `EmbeddingEngine.run`."""
        request = self._requests[(pixels.shape[1], pixels.shape[2])]
        request.infer([np.ascontiguousarray(pixels)], share_inputs=True)
        return np.array(request.get_output_tensor(0).data, dtype=np.float32)


def openvino() -> Any:
    """The library, without its telemetry: it would report each import to its maker unless told otherwise."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes importing it fail
    import openvino as library

    return library


def convert(network: nn.Module, card: NetworkCard, size: tuple[int, int]) -> Any:
    """OpenVINO's graph of a torch network without its head, for images of one size and any number of them.

    Args:
        size: height and width in pixels.
    Raises:
        GandtError: CONVERSION_FAILED, the network cannot be converted, or computes something else afterwards.
    """
    import torch

    from gandt.adapters.torch_engines import NormalizedNetwork

    module = NormalizedNetwork(network, card.preprocessing).eval()
    images = probe_images(*size)
    library = openvino()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: sizes become constants, which is meant
            expected = module(torch.from_numpy(images)).numpy()
            graph = library.convert_model(
                module, example_input=torch.from_numpy(images), input=[library.PartialShape([-1, *size, 3])]
            )
    except AssertionError as error:
        raise _failed(card, f"images of {size[0]}x{size[1]} pixels are not taken: {error}") from error
    except Exception as error:  # the converter and its tracer raise whatever they like
        raise _failed(card, str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error
    got = OpenVinoEngine({size: graph}, "float32", 1).run(images)
    likeness = least_cosine(expected, got)
    if likeness < _LEAST_COSINE:
        raise _failed(card, f"the converted network computes something else (cosine {likeness:.4f})")
    return graph


def save(graph: Any, card: NetworkCard, path: Path) -> None:
    """Writes NAME.xml and NAME.bin; a reader sees the old pair, no pair, or the new one.

    Args:
        path: of NAME.xml.
    Raises:
        OSError: the folder cannot be written.
    """
    library = openvino()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as folder:
        draft = Path(folder) / "model.xml"
        library.save_model(graph, draft, compress_to_fp16=False)
        numbers = hashlib.sha256(draft.with_suffix(".bin").read_bytes()).hexdigest()
        table = {"format": _FORMAT, "numbers_sha256": numbers, "card": card.as_table()}
        graph.set_rt_info(json.dumps(table), _KEY)
        library.save_model(graph, draft, compress_to_fp16=False)
        path.unlink(missing_ok=True)
        draft.with_suffix(".bin").replace(path.with_suffix(".bin"))
        draft.replace(path)


def read(graph: bytes, numbers: bytes, where: str) -> tuple[Any, NetworkCard]:
    """OpenVINO's graph from the bytes of the two files, and what it is.

    Args:
        where: NAME.xml, for messages.
    Raises:
        InvalidInput: it is not a network that G&T exported.
        CorruptData: the two files do not belong together.
    """
    try:
        stored = ElementTree.fromstring(graph).find(f"rt_info/{_KEY}")
        table = json.loads(stored.attrib["value"]) if stored is not None else {}
        if table["format"] != _FORMAT:
            raise ValueError(f"format {table['format']}")
        card, expected = NetworkCard.from_table(table["card"]), table["numbers_sha256"]
    except (ElementTree.ParseError, ValueError, KeyError, TypeError, InvalidInput) as error:
        raise _unreadable(where) from error
    if hashlib.sha256(numbers).hexdigest() != expected:
        raise CorruptData(
            f"the numbers beside {where} are not those that it was exported with",
            kind="weights",
            id=where,
            reason="WEIGHTS_SHA256_MISMATCH",
            fix="copy both files, .xml and .bin, again",
        )
    try:
        return openvino().Core().read_model(model=graph, weights=numbers), card
    except RuntimeError as error:
        raise _unreadable(where) from error


def size_of(graph: Any) -> tuple[int, int]:
    """Height and width of the images that a graph takes."""
    shape = graph.inputs[0].partial_shape
    return shape[1].get_length(), shape[2].get_length()


def _unreadable(where: str) -> InvalidInput:
    return InvalidInput(
        f"{where} is no model that gandt exported",
        field="weights",
        reason="EXPORT_UNREADABLE",
        fix="write it with: gandt model export --model NAME --weights FILE -o MODEL.xml",
    )


def _failed(card: NetworkCard, why: str) -> GandtError:
    return GandtError(
        f"model {card.architecture} cannot be converted for OpenVINO: {why}",
        reason="CONVERSION_FAILED",
        fix="use engine eager",
    )
