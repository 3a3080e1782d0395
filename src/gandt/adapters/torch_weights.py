# SPDX-License-Identifier: GPL-3.0-or-later
"""State dicts from bytes, without running code that lies in them, and strict loading with telling errors."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from gandt.adapters.weights import WeightsFile, check_sha256
from gandt.domain.errors import BackendUnavailable, InvalidInput

State = dict[str, torch.Tensor]
_WRAPPERS = ("state_dict", "model_state_dict", "model")  # where training scripts put it
_HUB_HASH = re.compile(r"-([0-9a-f]{8,})\.pth$")


def state_dict(weights: WeightsFile) -> State:
    """The tensors of a weights file, by name.

    Raises:
        InvalidInput: not such a file, or one that would run code.
    """
    try:
        if weights.source.lower().endswith(".safetensors"):
            state: Any = load_safetensors(weights.data)
        else:
            state = torch.load(io.BytesIO(weights.data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _unreadable(
            weights, "hold more than tensors, and loading them could run code", "save model.state_dict() alone"
        ) from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError) as error:
        first = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise _unreadable(weights, f"cannot be read ({first})", "fetch the file again") from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(t, torch.Tensor) for t in state.values()):
        raise _unreadable(weights, "hold no state dict", "save model.state_dict() alone")
    return {key.removeprefix("module."): tensor for key, tensor in state.items()}


def load_strictly(model: nn.Module, state: State, name: str, classes: int, weights: WeightsFile) -> None:
    """Fills a model, which may be on the meta device, so that nothing of it stays random.

    Args:
        name: the architecture, for messages.
        classes: outputs that the model was built with.
    Raises:
        InvalidInput: WEIGHTS_CLASSES when only the number of classes differs, else WEIGHTS_MISMATCH.
    """
    own = model.state_dict()
    # Counters that only training needs; files made by converters lack them.
    counters = {key: torch.zeros((), dtype=torch.long) for key in own if key.endswith("num_batches_tracked")}
    state = {**counters, **state}
    missing = [key for key in own if key not in state]
    extra = [key for key in state if key not in own]
    other_shape = [key for key in own if key in state and own[key].shape != state[key].shape]
    if other_shape and not missing and not extra and all(_is_head(own[k], state[k], classes) for k in other_shape):
        found = state[other_shape[0]].shape[0]
        described = weights.description.where if weights.description else f"{weights.source}.toml"
        raise InvalidInput(
            f"weights {weights.source} were trained for {found} classes, not {classes}",
            field="weights",
            reason="WEIGHTS_CLASSES",
            fix=f"write classes = {found}, with the size, mean and std of its training, in {described}",
        )
    problems = [
        f"{what} {len(keys)} of its tensors (such as {keys[0]})"
        for what, keys in (
            ("lack", missing),
            ("have other names for or add", extra),
            ("have other sizes for", other_shape),
        )
        if keys
    ]
    if problems:
        raise InvalidInput(
            f"weights {weights.source} are not of {name}: they {' and '.join(problems)}",
            field="weights",
            reason="WEIGHTS_MISMATCH",
            fix="name the architecture that they were trained for as the model",
        )
    filled = {key: t.to(own[key].dtype) for key, t in state.items()}
    model.load_state_dict(filled, strict=True, assign=True)


def download(url: str) -> WeightsFile:
    """torchvision's own weights from the cache of torch.hub, fetched when they are not there.

    Raises:
        BackendUnavailable: the server does not answer.
        CorruptData: the cached file is not what its name says.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / Path(urlsplit(url).path).name
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:  # urllib's errors are among them
            raise BackendUnavailable(
                f"torchvision's weights cannot be fetched from {url}: {error}",
                backend="torchvision",
                reason="WEIGHTS_DOWNLOAD_FAILED",
                fix="fetch the file by other means and name it as the weights",
            ) from error
    data = path.read_bytes()
    named = _HUB_HASH.search(path.name)
    return WeightsFile(data, check_sha256(data, named.group(1) if named else "", str(path)), url, None)


def downloaded_state(name: str, fetch: Callable[[], State]) -> tuple[WeightsFile, State]:
    """What a library of models downloads, hashed over its tensors, since it does not tell where the file lies.

    Args:
        fetch: gets the state dict, from the library's cache or its server.
    Raises:
        BackendUnavailable: the server does not answer.
    """
    try:
        state = fetch()
    except (OSError, RuntimeError, ValueError) as error:  # those of huggingface_hub are among them
        raise BackendUnavailable(
            f"the weights of {name} cannot be fetched: {str(error).splitlines()[0][:200]}",
            backend="weights",
            reason="WEIGHTS_DOWNLOAD_FAILED",
            fix="fetch the file by other means and name it as the weights",
        ) from error
    digest = hashlib.sha256()
    for key, tensor in sorted(state.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return WeightsFile(b"", digest.hexdigest(), f"{name} (its library's download)", None), state


def _is_head(own: torch.Tensor, given: torch.Tensor, classes: int) -> bool:
    return own.shape[:1] == (classes,) and own.shape[1:] == given.shape[1:]


def _unreadable(weights: WeightsFile, what: str, fix: str) -> InvalidInput:
    return InvalidInput(f"weights {weights.source} {what}", field="weights", reason="WEIGHTS_UNREADABLE", fix=fix)
