# SPDX-License-Identifier: GPL-3.0-or-later
"""Which model to load and how, and what a loaded network says of itself (no torch)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gandt.domain.embedding import Preprocessing, Views

ENGINES = ("eager", "openvino", "compile", "cuda")
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to load, and how.

    Attributes:
        name: torchvision's name of the architecture, `timm:NAME` or `open_clip:NAME`.
        weights: a path, an `s3://` URI, a name of the library's own weights (`DEFAULT`), or an exported model (`.xml`).
        weights_config: the description's place; "" for the one beside the weights.
        weights_sha256: what they must hash to; "" for the description's.
        device: `auto`, `cpu` or `cuda`.
        engine: `auto` or one of ENGINES.
        torch_threads: threads of the CPU's kernels; 0 for the processors that this process may use.
        precision: `auto` or one of PRECISIONS.
        views: what is averaged into a vector.
        project: numbers that a vector is projected to; 0 for none.
        max_batch: most images that are given to it at once; no larger shape is prepared.
        cache_dir: folder where converted models are kept; None keeps none.
    """

    name: str
    weights: str = ""
    weights_config: str = ""
    weights_sha256: str = ""
    device: str = "auto"
    engine: str = "auto"
    torch_threads: int = 0
    precision: str = "auto"
    views: Views = Views()
    project: int = 0
    max_batch: int = 8
    cache_dir: Path | None = None


@dataclass(frozen=True, slots=True)
class NetworkCard:
    """What a network is, whatever runs it.

    Attributes:
        architecture: its name.
        weights_sha256, weights_source: of the weights that it was filled with.
        preprocessing: what its images go through.
    """

    architecture: str
    weights_sha256: str
    weights_source: str
    preprocessing: Preprocessing

    def as_table(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    @classmethod
    def from_table(cls, table: dict[str, Any]) -> NetworkCard:
        """From what `as_table` gave.

        Raises:
            KeyError, TypeError, InvalidInput: it is something else.
        """
        values = dict(table["preprocessing"])
        values["mean"], values["std"] = tuple(values["mean"]), tuple(values["std"])
        return cls(
            str(table["architecture"]),
            str(table["weights_sha256"]),
            str(table["weights_source"]),
            Preprocessing(**values),
        )
