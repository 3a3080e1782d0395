# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks of torch as embedders: found in a library of models, filled with weights, given to an engine.

Vectors are the pooled features (a transformer's class token), scaled to unit length.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import nn

from gandt.adapters import converted_models, openvino_engine
from gandt.adapters.engine_choice import Choice, choose, settle, this_machine
from gandt.adapters.model_spec import ModelSpec, NetworkCard
from gandt.adapters.network_model import assemble, decoder_of, view_sizes
from gandt.adapters.processors import processors
from gandt.adapters.text_towers import load_texts
from gandt.adapters.torch_engines import CompiledEngine, CudaEngine, EagerEngine, bfloat16_cosine
from gandt.adapters.torch_weights import State, load_strictly, state_dict
from gandt.adapters.torchvision_zoo import TorchvisionZoo
from gandt.adapters.weights import WeightsFile, read_weights
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import GandtError, InvalidInput
from gandt.ports.embedding_engine import EmbeddingEngine
from gandt.ports.embedding_model import EmbeddingModel
from gandt.ports.object_store import ObjectStore

__all__ = ["ModelSpec", "TorchNetwork", "Zoo", "load_torch_model", "load_torch_network"]

log = logging.getLogger(__name__)


class Zoo(Protocol):
    """A library of models."""

    def check(self, name: str) -> None:
        """Raise InvalidInput unless it has such a model."""
        ...

    def own(self, name: str) -> tuple[Preprocessing, int]:
        """How its own weights of a model were trained, and their number of classes."""
        ...

    def own_weights(self, name: str, member: str) -> tuple[WeightsFile, State, Preprocessing, int] | None:
        """Its download of that name (`DEFAULT`), with how it was trained; None when it is no name of a download."""
        ...

    def build(self, name: str, classes: int, preprocessing: Preprocessing) -> nn.Module:
        """The network in eval mode, to be filled by `load_strictly`. Draws nothing from the caller's generator."""
        ...

    def select(self, state: State) -> State:
        """What of a file's tensors belongs to the network that `build` makes."""
        ...

    def headless(self, network: nn.Module) -> nn.Module:
        """The network with its features as output."""
        ...


@dataclass(frozen=True, slots=True)
class TorchNetwork:
    """A network in eval mode without its head, filled with weights.

    Attributes:
        card: what it is.
        key: what its conversion is kept under.
    """

    module: nn.Module
    card: NetworkCard
    key: str


def load_torch_network(spec: ModelSpec, objects: ObjectStore) -> TorchNetwork:
    """Finds a network and fills it.

    Raises:
        InvalidInput: no such model, no weights, or weights that do not fit.
        WrongState: MODEL_LIBRARY_MISSING.
        NotFound, CorruptData, BackendUnavailable: as `read_weights` and the libraries' downloads.
    """
    zoo = _zoo(spec.name)
    zoo.check(spec.name)
    weights, state, preprocessing, classes = _weights(spec, zoo, objects)
    network = zoo.build(spec.name, classes, preprocessing)
    load_strictly(network, zoo.select(state), spec.name, classes, weights)
    network.requires_grad_(False)
    card = NetworkCard(spec.name, weights.sha256, weights.source, preprocessing)
    member = "" if weights.data else spec.weights
    return TorchNetwork(zoo.headless(network).eval(), card, converted_models.cache_key(spec.name, weights, member))


def load_torch_model(
    spec: ModelSpec, objects: ObjectStore, limits: tuple[int, int], choice: Choice | None = None
) -> EmbeddingModel:
    """Loads a model with its weights and runs every shape once.

    Args:
        objects: where `s3://` weights are read.
        limits: most bytes and most pixels of an image.
        choice: what runs it; None chooses by this machine.
    Raises:
        InvalidInput, WrongState, NotFound, CorruptData, BackendUnavailable: as `load_torch_network` and `choose`.
        GandtError: CONVERSION_FAILED, with engine openvino alone; `auto` takes eager instead.
    """
    if spec.torch_threads or processors() < torch.get_num_threads():
        torch.set_num_threads(spec.torch_threads or processors())
    choice = choice or choose(spec.engine, spec.precision, spec.device, this_machine(spec.device))
    network = load_torch_network(spec, objects)
    if choice.engine != "eager":
        network = probed(network)
        choice = settle(choice, spec.precision, network.card)
    try:
        engine = _engine(network, choice, spec)
    except GandtError as error:
        if error.reason != "CONVERSION_FAILED" or spec.engine != "auto" or spec.precision == "bfloat16":
            raise
        log.warning("engine eager is used instead of openvino: %s", error.message)
        choice = replace(choice, engine="eager", dtype="float32")
        engine = _engine(network, choice, spec)
    texts = load_texts(spec, objects, device=choice.device)
    model = assemble(network.card, engine, choice, spec, limits, texts)
    if spec.jpegs == "pillow":
        return model
    from gandt.adapters.jpeg_lists import ListDecodingModel

    preprocessing = network.card.preprocessing
    return ListDecodingModel(model, decoder_of(preprocessing, limits), preprocessing, torch.device("cuda"))


def probed(network: TorchNetwork) -> TorchNetwork:
    """The same, its card saying what bfloat16 would do to its vectors. To be called before an engine takes it over."""
    cosine = bfloat16_cosine(network.module, network.card.preprocessing)
    return replace(network, card=replace(network.card, bfloat16_cosine=cosine))


def _engine(network: TorchNetwork, choice: Choice, spec: ModelSpec) -> EmbeddingEngine:
    preprocessing = network.card.preprocessing
    if choice.engine == "openvino":
        return _openvino(network, choice, spec)
    if choice.engine == "compile":
        return CompiledEngine(network.module, preprocessing, choice.dtype)
    if choice.engine == "cuda":
        return CudaEngine(network.module, preprocessing, choice.dtype)
    return EagerEngine(network.module, preprocessing, torch.device("cpu" if choice.device == "cpu" else "cuda"))


def _openvino(network: TorchNetwork, choice: Choice, spec: ModelSpec) -> EmbeddingEngine:
    found = converted_models.find(spec.cache_dir, network.key, spec.views)
    if found is None:
        sizes = view_sizes(network.card.preprocessing, spec.views)
        graphs = {size: openvino_engine.convert(network.module, network.card, size) for size in sizes}
        converted_models.keep(spec.cache_dir, network.key, network.card, graphs)
    else:
        graphs = found[1]
    return openvino_engine.OpenVinoEngine(graphs, choice.dtype, spec.torch_threads or processors())


def _zoo(name: str) -> Zoo:
    if name.startswith("timm:"):
        from gandt.adapters.timm_zoo import TimmZoo

        return TimmZoo()
    if name.startswith("open_clip:"):
        from gandt.adapters.open_clip_zoo import OpenClipZoo

        return OpenClipZoo()
    return TorchvisionZoo()


def _weights(spec: ModelSpec, zoo: Zoo, objects: ObjectStore) -> tuple[WeightsFile, State, Preprocessing, int]:
    if not spec.weights:
        raise InvalidInput(
            f"model {spec.name} has no weights, and random ones would make useless vectors",
            field="weights",
            reason="NO_WEIGHTS",
            fix="give --weights FILE, --weights s3://..., --weights DEFAULT for the library's download, or --model hog",
        )
    own = zoo.own_weights(spec.name, spec.weights)
    if own is not None:
        return own
    weights = read_weights(spec.weights, objects, config=spec.weights_config, sha256=spec.weights_sha256)
    described = weights.description
    if described is None:
        return (weights, state_dict(weights), *zoo.own(spec.name))
    if described.architecture not in ("", spec.name):
        raise InvalidInput(
            f"weights {spec.weights} are of {described.architecture} (says {described.where}), not of {spec.name}",
            field="model",
            reason="WEIGHTS_MISMATCH",
            fix=f"use --model {described.architecture}",
        )
    return weights, state_dict(weights), described.preprocessing, described.classes
