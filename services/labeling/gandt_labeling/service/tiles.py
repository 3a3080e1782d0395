# SPDX-License-Identifier: GPL-3.0-or-later
"""The tiles of a page: which images they show, and the page without some of them."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any


def image_ids(task_input: Any) -> list[str]:
    """Ids of the images on a page, each once: a tile's `id`, or its `source-ref` where it has none."""
    found = (_image(tile) for tile in _tiles(task_input))
    return list(dict.fromkeys(image for image in found if image))


def without_images(task_input: Any, hidden: Set[str]) -> Any:
    """The page without the tiles of these images; what only its first tile carries (classes, examples) stays on it.

    A page that would have no tile left is returned whole.
    """
    tiles = _tiles(task_input)
    shown = [tile for tile in tiles if _image(tile) not in hidden]
    if not shown or len(shown) == len(tiles):
        return task_input
    if shown[0] is not tiles[0]:
        others: set[str] = set().union(*(tile.keys() for tile in tiles[1:] if isinstance(tile, dict)))
        shared = {key: value for key, value in tiles[0].items() if key not in others}
        shown[0] = {**shared, **shown[0]}
    return {**task_input, "taskObject": shown}


def tile_labels(task_input: Any, answer: Any) -> dict[str, frozenset[str]]:
    """By image what a form of our kind says of it: the labels, or none for what is not an answer.

    Tiles that were left open, and forms of other templates, are left out.
    """
    found: dict[str, frozenset[str]] = {}
    for tile in _tiles(task_input) if isinstance(answer, dict) else []:
        image = _image(tile)
        if not image or "index" not in tile:
            continue
        try:
            labels = json.loads(answer.get(f"labels-{tile['index']}", "null"))
        except (TypeError, ValueError, RecursionError):
            continue
        if isinstance(labels, list) and labels and all(isinstance(label, str) for label in labels):
            found[image] = frozenset(labels)
    return found


def _tiles(task_input: Any) -> list[Any]:
    tiles = task_input.get("taskObject") if isinstance(task_input, dict) else None
    return tiles if isinstance(tiles, list) else []


def _image(tile: Any) -> str:
    named = (tile.get("id") or tile.get("source-ref")) if isinstance(tile, dict) else None
    return str(named)[:512] if named else ""
