# SPDX-License-Identifier: GPL-3.0-or-later
"""The image towers of OpenCLIP by `open_clip:NAME` or `open_clip:NAME/PRETRAINED`; text towers: `open_clip_texts.py`.

PRETRAINED names OpenCLIP's own weights: `DEFAULT` downloads them, and their preprocessing is used. The vector is what
the tower gives: the projection into the space that images and texts share.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gandt.adapters.timm_zoo import library_missing
from gandt.adapters.torch_weights import State, downloaded_state
from gandt.adapters.torchvision_zoo import refuse_name
from gandt.adapters.weights import WeightsFile
from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import InvalidInput

PREFIX = "open_clip:"
TOWER = "visual."
# What OpenCLIP was trained with where a config says nothing else (openai/CLIP).
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class OpenClipZoo:
    """See `Zoo` in torch_model.py. Names come with their prefix.

    Raises:
        WrongState: MODEL_LIBRARY_MISSING.
    """

    def __init__(self) -> None:
        try:
            import open_clip
        except ImportError as error:
            raise library_missing("OpenCLIP", "open-clip") from error
        self._open_clip: Any = open_clip

    def check(self, name: str) -> None:
        """Raise InvalidInput unless there are such a model and such weights."""
        model, tag = _parts(name)
        if model not in self._open_clip.list_models():
            known = [f"{PREFIX}{known}" for known in self._open_clip.list_models()]
            refuse_name(name, known, "see open_clip.list_models() for the names")
        tags = self._open_clip.list_pretrained_tags_by_model(model)
        if tag and tag not in tags:
            refuse_name(name, [f"{PREFIX}{model}/{known}" for known in tags], f"use {PREFIX}{model} and --weights FILE")

    def own(self, name: str) -> tuple[Preprocessing, int]:
        """Preprocessing of the weights that the name says; a tower has no classes."""
        model, tag = _parts(name)
        size = self._open_clip.get_model_config(model)["vision_cfg"]["image_size"]
        height, width = size if isinstance(size, (list, tuple)) else (size, size)
        config = (self._open_clip.get_pretrained_cfg(model, tag) if tag else None) or {}
        squash = config.get("resize_mode") == "squash"
        preprocessing = Preprocessing(
            height=height,
            width=width,
            resize_side=0 if squash else max(height, width),
            interpolation=config.get("interpolation") or "bicubic",
            mean=tuple(config.get("mean") or _MEAN),
            std=tuple(config.get("std") or _STD),
        )
        return preprocessing, 0

    def own_weights(self, name: str, member: str) -> tuple[WeightsFile, State, Preprocessing, int] | None:
        """OpenCLIP's download for `DEFAULT`; None for any other."""
        if member != "DEFAULT":
            return None
        model, tag = _parts(name)
        if not tag:
            raise InvalidInput(
                f"{name} does not say which weights of OpenCLIP to fetch",
                field="model",
                reason="PRETRAINED_NOT_NAMED",
                fix=f"name them, as in {PREFIX}{model}/laion2b_s34b_b79k; see open_clip.list_pretrained()",
            )

        def fetch() -> State:
            return dict(self.downloaded(name).visual.state_dict())

        return (*downloaded_state(name, fetch), *self.own(name))

    def build(self, name: str, classes: int, preprocessing: Preprocessing) -> nn.Module:
        """The image tower, with random numbers that are to be replaced."""
        del classes
        tower: nn.Module = self.whole(name, (preprocessing.height, preprocessing.width)).visual
        return tower.eval()

    def whole(self, name: str, image_size: tuple[int, int] | None = None) -> Any:
        """Both towers, with random numbers that are to be replaced."""
        options = {"load_weights": False, "pretrained_image": False, "pretrained_text": False}
        # Built for real: buffers that no weights file holds are computed here.
        with torch.random.fork_rng(devices=[]):
            return self._open_clip.create_model(_parts(name)[0], force_image_size=image_size, **options)

    def downloaded(self, name: str) -> Any:
        """Both towers with OpenCLIP's own weights, from its cache or their server."""
        model, tag = _parts(name)
        return self._open_clip.create_model(model, pretrained=tag)

    def tokenizer(self, name: str) -> Any:
        """What turns texts into the numbers that the text tower reads."""
        return self._open_clip.get_tokenizer(_parts(name)[0])

    def select(self, state: State) -> State:
        """The image tower's part of a whole model's state dict, or all of a tower's own."""
        tower = {key.removeprefix(TOWER): tensor for key, tensor in state.items() if key.startswith(TOWER)}
        return tower or state

    def headless(self, network: nn.Module) -> nn.Module:
        """A tower has no head."""
        return network


def _parts(name: str) -> tuple[str, str]:
    model, _, tag = name.removeprefix(PREFIX).partition("/")
    return model, tag
