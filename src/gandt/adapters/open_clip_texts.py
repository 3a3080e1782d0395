# SPDX-License-Identifier: GPL-3.0-or-later
"""The text towers of OpenCLIP, beside the image towers of `open_clip_zoo.py`: phrases into the space of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from gandt.adapters.model_spec import ModelSpec
from gandt.adapters.open_clip_zoo import TOWER, OpenClipZoo
from gandt.adapters.torch_weights import State, load_strictly, state_dict
from gandt.adapters.weights import WeightsFile, read_weights
from gandt.domain.errors import BackendUnavailable, InvalidInput
from gandt.ports.object_store import ObjectStore


class OpenClipTexts:
    """See `TextTower`.

    Args:
        network: a model of OpenCLIP; its image tower is dropped.
        tokenizer: OpenCLIP's own for that model.
    """

    def __init__(self, network: nn.Module, tokenizer: Any, device: torch.device) -> None:
        network.visual = nn.Identity()
        self._network: Any = network.eval().requires_grad_(False).float().to(device)
        self._tokenizer, self._device = tokenizer, device

    def tokens(self, text: str) -> NDArray[np.int64]:
        """See `TextTower.tokens`."""
        return np.asarray(self._tokenizer([text])[0].numpy(), dtype=np.int64)

    def run(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `TextTower.run`."""
        with torch.inference_mode():
            features = self._network.encode_text(torch.from_numpy(tokens).to(self._device))
        return np.asarray(features.float().cpu().numpy(), dtype=np.float32)


def load_open_clip_texts(spec: ModelSpec, objects: ObjectStore, device: str = "cpu") -> OpenClipTexts:
    """The text tower in a whole model's weights.

    Args:
        objects: where `s3://` weights are read.
        device: `cpu`, or a GPU's name.
    Raises:
        InvalidInput: the weights hold the image tower alone, or those of another text tower.
        BackendUnavailable: OpenCLIP's download, or that of the tokenizer, does not answer.
    """
    zoo = OpenClipZoo()
    if spec.weights == "DEFAULT":
        network = zoo.downloaded(spec.name)
    else:
        weights = read_weights(spec.weights, objects, config=spec.weights_config, sha256=spec.weights_sha256)
        network = _filled(zoo, spec.name, weights)
    try:
        tokenizer = zoo.tokenizer(spec.name)
    except (OSError, ImportError, ValueError) as error:
        raise BackendUnavailable(
            f"the tokenizer of {spec.name} cannot be fetched: {str(error).splitlines()[0][:200]}",
            backend="weights",
            reason="WEIGHTS_DOWNLOAD_FAILED",
            fix="let it fetch its tokenizer once, or use a model with OpenCLIP's own (ViT-B-32)",
        ) from error
    return OpenClipTexts(network, tokenizer, torch.device("cpu" if device == "cpu" else "cuda"))


def _filled(zoo: OpenClipZoo, name: str, weights: WeightsFile) -> Any:
    state: State = {key: tensor for key, tensor in state_dict(weights).items() if not key.startswith(TOWER)}
    network = zoo.whole(name)
    network.visual = nn.Identity()
    if not any(key.endswith("token_embedding.weight") or key.startswith("text.") for key in state):
        raise InvalidInput(
            f"weights {weights.source} hold the image tower alone",
            field="weights",
            reason="TEXT_UNSUPPORTED",
            fix="give the file of the whole model",
        )
    load_strictly(network, state, name, 0, weights)
    return network
