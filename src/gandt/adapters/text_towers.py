# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the text tower of a model that is being loaded (no torch unless it has one).

The tower shares the model's fingerprint: its vectors lie in the space of the images, whatever engine computes those.
"""

from __future__ import annotations

import importlib.util
import logging

from gandt.adapters.model_spec import ModelSpec
from gandt.domain.errors import BackendUnavailable, GandtError
from gandt.ports.embedding_engine import TextTower
from gandt.ports.object_store import ObjectStore

log = logging.getLogger(__name__)
OPEN_CLIP = "open_clip:"


def load_texts(spec: ModelSpec, objects: ObjectStore, has_torch: bool = True, device: str = "cpu") -> TextTower | str:
    """The tower, in float32 and run by torch, or why there is none; images are embedded all the same.

    Args:
        objects: where `s3://` weights are read.
        has_torch: whether torch is installed.
        device: `cpu`, or a GPU's name.
    Raises:
        BackendUnavailable: the weights cannot be fetched now.
    """
    if not spec.name.startswith(OPEN_CLIP):
        return f"{spec.name} has no text tower"
    if not spec.texts:
        return "the text tower was not loaded"
    if not has_torch or importlib.util.find_spec("open_clip") is None:
        return "the text tower needs torch and OpenCLIP, which are not installed (pip install 'gandt[open-clip]')"
    from gandt.adapters.open_clip_texts import load_open_clip_texts

    try:
        return load_open_clip_texts(spec, objects, device)
    except BackendUnavailable:
        raise
    except GandtError as error:
        log.warning("the text tower of %s cannot be used: %s", spec.name, error.message)
        return error.message
