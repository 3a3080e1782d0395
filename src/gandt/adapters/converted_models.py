# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps networks that were converted for OpenVINO, so that the next start needs neither torch nor its conversion.

A file is named by everything that it was made from: architecture, weights, description, image size and the versions
of the libraries. What cannot be read is made again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gandt.adapters import openvino_engine
from gandt.adapters.model_spec import NetworkCard
from gandt.adapters.network_model import view_sizes
from gandt.adapters.weights import WeightsFile
from gandt.domain.embedding import Views
from gandt.domain.errors import CorruptData, InvalidInput

log = logging.getLogger(__name__)
KEPT = 8  # files; a converted network has the size of its weights
_VERSION = 1  # raise it when conversion changes
_LIBRARIES = ("openvino", "torch", "torchvision", "timm", "open-clip-torch")
Graphs = dict[tuple[int, int], Any]


def cache_key(name: str, weights: WeightsFile, member: str = "") -> str:
    """What a converted network is kept under.

    Args:
        name: of the architecture.
        member: the library's name of its own weights; "" for a file.
    """
    described = asdict(weights.description) if weights.description else {}
    described.pop("where", None)
    versions = [_version(library) for library in _LIBRARIES]
    text = json.dumps([_VERSION, name, weights.sha256, member, described, versions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def find(folder: Path | None, key: str, views: Views) -> tuple[NetworkCard, Graphs] | None:
    """What a network is, and OpenVINO's graphs of all its views; None unless all of it is there."""
    base = _read(folder, key)
    if base is None:
        return None
    graph, card = base
    graphs: Graphs = {openvino_engine.size_of(graph): graph}
    for size in view_sizes(card.preprocessing, views):
        if size not in graphs:
            more = _read(folder, _name(key, card, size))
            if more is None:
                return None
            graphs[size] = more[0]
    return card, graphs


def keep(folder: Path | None, key: str, card: NetworkCard, graphs: Graphs) -> None:
    """Writes graphs for `find`; a folder that cannot be written is told and else ignored."""
    if folder is None:
        return
    try:
        for size, graph in graphs.items():
            openvino_engine.save(graph, card, folder / f"{_name(key, card, size)}.xml")
        newest_first = sorted(folder.glob("*.xml"), key=lambda path: path.stat().st_mtime, reverse=True)
        for path in newest_first[max(KEPT, len(graphs)) :]:
            path.unlink(missing_ok=True)
            path.with_suffix(".bin").unlink(missing_ok=True)
    except (OSError, RuntimeError) as error:  # OpenVINO's own for a disk that is full
        log.warning("the converted network could not be kept in %s, each start converts it anew: %s", folder, error)


def _read(folder: Path | None, name: str) -> tuple[Any, NetworkCard] | None:
    if folder is None:
        return None
    path = folder / f"{name}.xml"
    try:
        found = openvino_engine.read(path.read_bytes(), path.with_suffix(".bin").read_bytes(), str(path))
        os.utime(path)  # the longest unused ones are dropped
    except FileNotFoundError:
        return None
    except (OSError, InvalidInput, CorruptData) as error:
        log.warning("%s cannot be used and is made anew: %s", path, error)
        return None
    return found


def _name(key: str, card: NetworkCard, size: tuple[int, int]) -> str:
    own = (card.preprocessing.height, card.preprocessing.width)
    return key if size == own else f"{key}-{size[0]}x{size[1]}"


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return ""
