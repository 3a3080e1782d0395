# SPDX-License-Identifier: GPL-3.0-or-later
"""Any classification model of torchvision as an embedder: its classifier is cut off, what remains is the vector.

Vectors are the pooled features (a transformer's class token), scaled to unit length. The model runs in eager mode and
float32. On the CPU a vector is the same bit for bit whatever shares its batch: oneDNN picks other kernels for one
image and for more than eight, so batches are cut to eight and a single image is computed twice.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from gandt.adapters.image_decode import MIN_SIDE, ImageDecoder, fit
from gandt.adapters.processors import processors
from gandt.adapters.torch_weights import download, load_strictly, state_dict
from gandt.adapters.weights import WeightsFile, read_weights
from gandt.domain.embedding import Ingredients, ModelInfo, Preprocessing, fingerprint
from gandt.domain.errors import InvalidInput, WrongState
from gandt.domain.vectors import normalized
from gandt.ports.object_store import ObjectStore

CPU_BATCH = 8
MAX_FEATURES = 8_192  # above it the features are an unpooled map
_HEADS = ("heads", "head", "classifier", "fc")
_REPEATS_INPUT_SCALING = ("googlenet", "inception_v3")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model to load, and how.

    Attributes:
        name: torchvision's name of the architecture.
        weights: a path, an `s3://` URI, or a name of torchvision's weights (`DEFAULT`).
        weights_config: the description's place; "" for the one beside the weights.
        weights_sha256: what they must hash to; "" for the description's.
        device: `auto`, `cpu` or `cuda`.
        engine: `auto` or `eager`.
        torch_threads: threads of the CPU's kernels; 0 for the processors that this process may use.
    """

    name: str
    weights: str = ""
    weights_config: str = ""
    weights_sha256: str = ""
    device: str = "auto"
    engine: str = "auto"
    torch_threads: int = 0


class TorchModel:
    """A loaded network. `embed` belongs to one thread; `prepare` to any.

    Args:
        network: without its classifier, in eval mode.
    """

    def __init__(
        self, network: nn.Module, info: ModelInfo, preprocessing: Preprocessing, decoder: ImageDecoder
    ) -> None:
        self.info = info
        self._preprocessing = preprocessing
        self._decoder = decoder
        self._device = torch.device("cuda" if info.device != "cpu" else "cpu")
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        shape = (1, 3, 1, 1)
        self._mean = torch.tensor(preprocessing.mean, device=self._device).view(shape)
        self._std = torch.tensor(preprocessing.std, device=self._device).view(shape)

    def prepare(self, data: bytes) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare`."""
        return fit(self._decoder.decode(data), self._preprocessing)

    def prepare_pixels(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """See `EmbeddingModel.prepare_pixels`."""
        return fit(self._decoder.from_pixels(pixels), self._preprocessing)

    def embed(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """See `EmbeddingModel.embed`."""
        step = CPU_BATCH if self._device.type == "cpu" else max(1, len(prepared))
        parts = [self._features(prepared[start : start + step]) for start in range(0, len(prepared), step)]
        return normalized(np.concatenate(parts))

    def _features(self, prepared: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        alone = len(prepared) == 1
        pixels = torch.from_numpy(np.stack([prepared[0]] * 2 if alone else list(prepared)))  # u8[N, H, W, 3]
        with torch.inference_mode():
            x = pixels.to(self._device).permute(0, 3, 1, 2).float()  # [N, 3, H, W], channels last in memory
            x = (x / self._preprocessing.scale - self._mean) / self._std
            features = self._network(x).flatten(1).float().cpu().numpy()  # [N, D]
        return np.asarray(features[: len(prepared)], dtype=np.float32)


def load_torch_model(spec: ModelSpec, objects: ObjectStore, limits: tuple[int, int]) -> TorchModel:
    """Loads a model with its weights and computes one vector.

    Args:
        objects: where `s3://` weights are read.
        limits: most bytes and most pixels of an image.
    Raises:
        InvalidInput: no such model or device, no weights, or weights that do not fit.
        NotFound, CorruptData, BackendUnavailable: as `read_weights` and torchvision's download.
    """
    check_name(spec.name)
    if spec.engine not in ("auto", "eager"):
        raise InvalidInput(
            f"engine {spec.engine!r} is unknown", field="engine", reason="UNKNOWN_ENGINE", fix="use auto or eager"
        )
    weights, classes, preprocessing = _weights(spec, objects)
    network = _build(spec.name, classes, preprocessing)
    load_strictly(network, state_dict(weights), spec.name, classes, weights)
    network.requires_grad_(False)
    remove_head(network)
    if spec.torch_threads or processors() < torch.get_num_threads():
        torch.set_num_threads(spec.torch_threads or processors())
    decoder = ImageDecoder(max(MIN_SIDE, preprocessing.resize_side, preprocessing.height, preprocessing.width), *limits)
    ingredients = Ingredients(spec.name, preprocessing, weights.sha256, decoder.decoder_id)
    info = ModelInfo(
        model_id=fingerprint(ingredients),
        name=spec.name,
        dim=0,
        weights_sha256=weights.sha256,
        weights_source=weights.source,
        preprocessing=preprocessing.describe(),
        device=_device(spec.device),
        engine="eager",
        max_image_bytes=limits[0],
        max_pixels=limits[1],
    )
    return _measured(network.eval(), info, preprocessing, decoder)


def check_name(name: str) -> None:
    """Raise InvalidInput, naming the nearest ones, unless torchvision has a classification model of that name."""
    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        near = difflib.get_close_matches(name, [*names, "hog"], n=3, cutoff=0.4)
        raise InvalidInput(
            f"there is no model {name!r}",
            field="model",
            reason="UNKNOWN_MODEL",
            fix=f"did you mean {' or '.join(near)}?" if near else "name hog or a torchvision classification model",
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


def _weights(spec: ModelSpec, objects: ObjectStore) -> tuple[WeightsFile, int, Preprocessing]:
    members = torchvision.models.get_model_weights(spec.name)
    if not spec.weights:
        raise InvalidInput(
            f"model {spec.name} has no weights, and random ones would make useless vectors",
            field="weights",
            reason="NO_WEIGHTS",
            fix="give --weights FILE, --weights s3://..., --weights DEFAULT for torchvision's download, or --model hog",
        )
    if spec.weights in members.__members__:
        preprocessing, classes = own_preprocessing(spec.name, spec.weights)
        return download(members[spec.weights].url), classes, preprocessing
    weights = read_weights(spec.weights, objects, config=spec.weights_config, sha256=spec.weights_sha256)
    described = weights.description
    if described is None:
        preprocessing, classes = own_preprocessing(spec.name)
        return weights, classes, preprocessing
    if described.architecture not in ("", spec.name):
        raise InvalidInput(
            f"weights {spec.weights} are of {described.architecture} (says {described.where}), not of {spec.name}",
            field="model",
            reason="WEIGHTS_MISMATCH",
            fix=f"use --model {described.architecture}",
        )
    return weights, described.classes, described.preprocessing


def _build(name: str, classes: int, preprocessing: Preprocessing) -> nn.Module:
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


def _measured(network: nn.Module, info: ModelInfo, preprocessing: Preprocessing, decoder: ImageDecoder) -> TorchModel:
    blank = np.zeros((preprocessing.height, preprocessing.width, 3), np.uint8)
    dim = TorchModel(network, info, preprocessing, decoder).embed([blank]).shape[1]
    return TorchModel(network, replace(info, dim=dim), preprocessing, decoder)


def _device(wanted: str) -> str:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return "cpu"
    if wanted not in ("auto", "cuda") or not torch.cuda.is_available():
        raise WrongState(
            f"device {wanted} is not here", kind="device", id=wanted, reason="NO_DEVICE", fix="use auto or cpu"
        )
    return str(torch.cuda.get_device_name())
