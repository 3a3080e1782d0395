# SPDX-License-Identifier: GPL-3.0-or-later
"""Models of timm (PyTorch Image Models) by `timm:NAME` or `timm:NAME.TAG`: pooled features, the classifier reset."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from gandt.adapters.torch_weights import State, downloaded_state
from gandt.adapters.torchvision_zoo import refuse_name
from gandt.adapters.weights import WeightsFile
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import WrongState

PREFIX = "timm:"
_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


class TimmZoo:
    """See `Zoo` in torch_model.py. Names come with their prefix.

    Raises:
        WrongState: MODEL_LIBRARY_MISSING.
    """

    def __init__(self) -> None:
        try:
            import timm
        except ImportError as error:
            raise library_missing("timm", "timm") from error
        self._timm: Any = timm

    def check(self, name: str) -> None:
        """Raise InvalidInput unless there is such a model."""
        bare = name.removeprefix(PREFIX)
        if not self._timm.is_model(bare):
            known = [f"{PREFIX}{model}" for model in self._timm.list_models()]
            refuse_name(name, known, "see timm.list_models() for the names")

    def own(self, name: str) -> tuple[Preprocessing, int]:
        """Preprocessing and number of classes of timm's own weights of that name and tag."""
        config = self._timm.get_pretrained_cfg(name.removeprefix(PREFIX), allow_unregistered=False)
        height, width = config.input_size[-2:]
        squash = config.crop_mode == "squash"
        resize_side = 0 if squash else math.floor(min(height, width) / config.crop_pct)  # as timm rounds
        known = config.interpolation in _INTERPOLATIONS
        preprocessing = Preprocessing(
            height=height,
            width=width,
            resize_side=resize_side if squash else max(resize_side, height, width),
            interpolation=config.interpolation if known else "bicubic",
            mean=tuple(config.mean),
            std=tuple(config.std),
        )
        return preprocessing, config.num_classes

    def own_weights(self, name: str, member: str) -> tuple[WeightsFile, State, Preprocessing, int] | None:
        """timm's download for `DEFAULT`; None for any other."""
        if member != "DEFAULT":
            return None
        preprocessing, classes = self.own(name)
        bare = name.removeprefix(PREFIX)

        def fetch() -> State:
            return dict(self._timm.create_model(bare, pretrained=True, num_classes=classes).state_dict())

        return (*downloaded_state(name, fetch), preprocessing, classes)

    def build(self, name: str, classes: int, preprocessing: Preprocessing) -> nn.Module:
        """The whole network, with random numbers that are to be replaced."""
        bare = name.removeprefix(PREFIX)
        options: dict[str, Any] = {"pretrained": False, "num_classes": classes}
        size = (preprocessing.height, preprocessing.width)
        trained = self._timm.get_pretrained_cfg(bare, allow_unregistered=False)
        if tuple(trained.input_size[-2:]) != size and trained.fixed_input_size:
            options["img_size"] = size
        # Built for real: buffers that no weights file holds are computed here.
        with torch.random.fork_rng(devices=[]):
            network = self._timm.create_model(bare, **options)
        assert isinstance(network, nn.Module)
        return network.eval()

    def select(self, state: State) -> State:
        """All of a state dict is the network's."""
        return state

    def headless(self, network: nn.Module) -> nn.Module:
        """The network with pooling and without its classifier."""
        network.reset_classifier(0)  # type: ignore[operator]
        return network


def library_missing(name: str, extra: str) -> WrongState:
    """The error for a model whose library is not installed."""
    return WrongState(
        f"models of {name} need a library that is not installed",
        kind="model",
        id=name,
        reason="MODEL_LIBRARY_MISSING",
        fix=f"pip install 'gandt[{extra}]'",
    )
