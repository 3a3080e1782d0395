# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads a network for an engine; torch is imported only when neither an exported nor a kept conversion will do."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gandt.adapters import converted_models, openvino_engine
from gandt.adapters.engine_choice import Choice, Machine, choose, settle, this_machine
from gandt.adapters.model_spec import ModelSpec, NetworkCard
from gandt.adapters.network_model import NetworkModel, assemble, view_sizes
from gandt.adapters.processors import processors
from gandt.adapters.text_towers import load_texts
from gandt.adapters.weights import SUFFIXES, read_bytes, read_weights
from gandt.domain.errors import CorruptData, GandtError, InvalidInput, WrongState
from gandt.ports.embedding_engine import TextTower
from gandt.ports.embedding_model import EmbeddingModel
from gandt.ports.object_store import ObjectStore

EXPORTED = ".xml"


def load_network(
    spec: ModelSpec, objects: ObjectStore, limits: tuple[int, int], machine: Machine | None = None
) -> EmbeddingModel:
    """The model that a spec names, every shape of it run once.

    Args:
        spec: its `name` may be "" for an exported model.
        objects: where `s3://` weights are read.
        limits: most bytes and most pixels of an image.
        machine: what there is to run it with; None looks.
    Raises:
        InvalidInput, WrongState, NotFound, CorruptData, BackendUnavailable: it cannot be loaded, and why.
    """
    machine = machine or this_machine("cpu" if is_exported(spec.weights) else spec.device)
    choice = choose(spec.engine, spec.precision, spec.device, machine)
    if spec.jpegs != "pillow" and choice.device == "cpu":
        raise InvalidInput(
            f"{spec.jpegs} decodes JPEGs on a GPU, and the network runs on the CPU",
            field="jpeg_decoder",
            reason="JPEG_DECODER_NEEDS_GPU",
            fix="set jpeg_decoder to pillow",
        )
    if is_exported(spec.weights):
        if choice.engine != "openvino":
            raise InvalidInput(
                f"{spec.weights} is a model for OpenVINO, engine {choice.engine} cannot run it",
                field="engine",
                reason="EXPORT_NEEDS_OPENVINO",
                fix="use engine openvino, or give the weights that the model was exported from",
            )
        card, graphs = _exported(spec, objects)
        return _with_openvino(card, graphs, choice, spec, limits, "an exported model holds the image tower alone")
    if choice.engine == "openvino" and spec.weights.lower().endswith(SUFFIXES):
        weights = read_weights(spec.weights, objects, config=spec.weights_config, sha256=spec.weights_sha256)
        kept = converted_models.find(spec.cache_dir, converted_models.cache_key(spec.name, weights), spec.views)
        if kept is not None:
            return _with_openvino(*kept, choice, spec, limits, load_texts(spec, objects, machine.torch))
    if not machine.torch:
        raise WrongState(
            f"model {spec.name} has to be converted by torch first, and torch is not installed",
            kind="engine",
            id=choice.engine,
            reason="ENGINE_NOT_INSTALLED",
            fix="give a model that `gandt model export` wrote elsewhere, or pip install 'gandt[embedding]'",
        )
    from gandt.adapters.torch_model import load_torch_model

    return load_torch_model(spec, objects, limits, choice)


def export_network(spec: ModelSpec, objects: ObjectStore, path: Path) -> NetworkCard:
    """Writes a network as NAME.xml and NAME.bin, to be loaded without torch.

    Raises:
        InvalidInput: the name does not end in .xml, or as `load_network`.
        GandtError: CONVERSION_FAILED, or the files cannot be written.
    """
    from gandt.adapters.torch_model import load_torch_network, probed

    if path.suffix.lower() != EXPORTED:
        raise InvalidInput(
            f"a model cannot be written to {path}",
            field="output",
            reason="UNKNOWN_FORMAT",
            fix="name a file that ends in .xml; its numbers go to a .bin beside it",
        )
    network = probed(load_torch_network(spec, objects))
    size = (network.card.preprocessing.height, network.card.preprocessing.width)
    graph = openvino_engine.convert(network.module, network.card, size)
    try:
        openvino_engine.save(graph, network.card, path)
    except (OSError, RuntimeError) as error:
        raise GandtError(
            f"the model cannot be written to {path}: {error}", reason="CANNOT_WRITE", fix="name another folder"
        ) from error
    return network.card


def is_exported(weights: str) -> bool:
    """Whether weights name a model that `export_network` wrote."""
    return weights.lower().endswith(EXPORTED)


def _exported(spec: ModelSpec, objects: ObjectStore) -> tuple[NetworkCard, converted_models.Graphs]:
    where = spec.weights
    if where.startswith("s3://") and not spec.weights_sha256:
        raise InvalidInput(
            f"weights {where} come without a checksum",
            field="weights_sha256",
            reason="WEIGHTS_SHA256_MISSING",
            fix="set weights_sha256 to the SHA-256 of the .xml file, which holds that of the .bin",
        )
    graph_bytes = read_bytes(where, objects, "weights")
    found = hashlib.sha256(graph_bytes).hexdigest()
    if spec.weights_sha256 and found != spec.weights_sha256.lower():
        raise CorruptData(
            f"weights {where} have the SHA-256 {found}, expected was {spec.weights_sha256.lower()}",
            kind="weights",
            id=where,
            reason="WEIGHTS_SHA256_MISMATCH",
            fix="fetch the file again, or correct the expected hash",
        )
    numbers = read_bytes(f"{where[: -len(EXPORTED)]}.bin", objects, "weights")
    graph, card = openvino_engine.read(graph_bytes, numbers, where)
    if spec.name not in ("", card.architecture):
        raise InvalidInput(
            f"weights {where} are of {card.architecture}, not of {spec.name}",
            field="model",
            reason="WEIGHTS_MISMATCH",
            fix=f"use --model {card.architecture}",
        )
    size = openvino_engine.size_of(graph)
    if view_sizes(card.preprocessing, spec.views) != [size]:
        raise InvalidInput(
            f"the exported model {where} takes images of {size[0]}x{size[1]} pixels alone",
            field="scales",
            reason="SCALE_UNSUPPORTED",
            fix="leave scales away, or give the weights that it was exported from",
        )
    return card, {size: graph}


def _with_openvino(
    card: NetworkCard,
    graphs: converted_models.Graphs,
    choice: Choice,
    spec: ModelSpec,
    limits: tuple[int, int],
    texts: TextTower | str,
) -> NetworkModel:
    choice = settle(choice, spec.precision, card)
    threads = spec.torch_threads or processors()
    engine = openvino_engine.OpenVinoEngine(graphs, choice.dtype, threads)
    return assemble(card, engine, choice, spec, limits, texts)
