# SPDX-License-Identifier: GPL-3.0-or-later
"""torchvision's classification models: built without numbers, described as they were trained, their heads cut off."""

from __future__ import annotations

import difflib
from typing import Any

import torch
import torchvision
from torch import nn

from gandt.adapters.torch_weights import State, download, state_dict
from gandt.adapters.weights import WeightsFile
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import InvalidInput

MAX_FEATURES = 8_192  # above it the features are an unpooled map
_HEADS = ("heads", "head", "classifier", "fc")
_REPEATS_INPUT_SCALING = ("googlenet", "inception_v3")


class TorchvisionZoo:
    """See `Zoo` in torch_model.py."""

    def check(self, name: str) -> None:
        """Raise InvalidInput unless there is such a model."""
        check_name(name)

    def own(self, name: str) -> tuple[Preprocessing, int]:
        """Preprocessing and number of classes of torchvision's own weights."""
        return own_preprocessing(name)

    def own_weights(self, name: str, member: str) -> tuple[WeightsFile, State, Preprocessing, int] | None:
        """torchvision's download of that name; None when it is no name of a download."""
        members = torchvision.models.get_model_weights(name)
        if member not in members.__members__:
            return None
        weights = download(members[member].url)
        return (weights, state_dict(weights), *own_preprocessing(name, member))

    def build(self, name: str, classes: int, preprocessing: Preprocessing) -> nn.Module:
        """The whole network, its numbers still to be filled in."""
        options: dict[str, Any] = {"weights": None, "num_classes": classes}
        if name in _REPEATS_INPUT_SCALING:
            options["init_weights"] = False
        if name.startswith("vit_"):
            options["image_size"] = preprocessing.height
        try:
            with torch.device("meta"):  # no memory, and no numbers drawn from the caller's generator
                network = torchvision.models.get_model(name, **options)
        except NotImplementedError:  # RegNet computes while it is built
            with torch.random.fork_rng(devices=[]):
                network = torchvision.models.get_model(name, **options)
        assert isinstance(network, nn.Module)
        return network.eval()

    def select(self, state: State) -> State:
        """All of a state dict is the network's."""
        return state

    def headless(self, network: nn.Module) -> nn.Module:
        """The network without its classifier."""
        remove_head(network)
        return network


def check_name(name: str) -> None:
    """Raise InvalidInput, naming the nearest ones, unless torchvision has a classification model of that name."""
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        refuse_name(name, [*names, "hog"], "name hog, a torchvision classification model, timm:NAME or open_clip:NAME")


def refuse_name(name: str, known: list[str], otherwise: str) -> None:
    """Raise InvalidInput with the nearest names, or with other advice when none is near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise InvalidInput(
        f"there is no model {name!r}",
        field="model",
        reason="UNKNOWN_MODEL",
        fix=f"did you mean {' or '.join(near)}?" if near else otherwise,
    )


def remove_head(network: nn.Module) -> None:
    """Cuts the classifier off in place, up to its first layer with weights; layers that pool are kept.

    AlexNet and VGG classify an unpooled map: there only the last layer goes.
    """
    name = next(head for head in _HEADS if hasattr(network, head))
    head = getattr(network, name)
    if not isinstance(head, nn.Sequential):
        setattr(network, name, nn.Identity())
        return
    layers = list(head)
    trained = [i for i, layer in enumerate(layers) if isinstance(layer, nn.Linear | nn.Conv2d)]
    first = layers[trained[0]]
    cut = trained[-1] if isinstance(first, nn.Linear) and first.in_features > MAX_FEATURES else trained[0]
    pools = [layer for layer in layers[cut:] if isinstance(layer, nn.AdaptiveAvgPool2d)]
    setattr(network, name, nn.Sequential(*layers[:cut], *pools))


def own_preprocessing(name: str, member: str = "DEFAULT") -> tuple[Preprocessing, int]:
    """What torchvision's own weights of a model were trained with, and their number of classes."""
    weights = torchvision.models.get_model_weights(name)[member]
    transforms = weights.transforms()
    mean, std = tuple(transforms.mean), tuple(transforms.std)
    if name in _REPEATS_INPUT_SCALING:
        mean = std = (0.5, 0.5, 0.5)  # what their `transform_input` undoes and redoes comes to this
    side = transforms.crop_size[0]
    preprocessing = Preprocessing(
        height=side,
        width=side,
        resize_side=transforms.resize_size[0],
        interpolation=transforms.interpolation.value,
        mean=mean,
        std=std,
    )
    return preprocessing, len(weights.meta["categories"])
