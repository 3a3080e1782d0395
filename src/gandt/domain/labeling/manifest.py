# SPDX-License-Identifier: GPL-3.0-or-later
"""The input manifest of a labeling job: one JSON line per page of tiles.

Ground Truth wants `source` to be text, so a page is JSON inside JSON. The default form is a superset of the original
project's: it adds `gandt-task` beside `source`, and `task`, `id`, `multi_label` and `thumbnail-ref` inside the tiles,
which the original's readers ignore. The compat form is the original's `prepare_manifest` and `write_manifest_file`,
byte for byte.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gandt.domain.datasets import check_classes
from gandt.domain.errors import InvalidInput
from gandt.domain.labeling.pages import pack_pages

MAX_LINE_CHARACTERS = 100_000  # Ground Truth's limits; the second binds first
MAX_ATTRIBUTE_CHARACTERS = 20_000
GROUP_SIZE = 20


@dataclass(frozen=True, slots=True)
class Tile:
    """One image on a page.

    Attributes:
        uri: `s3://bucket/key` of the picture.
        image_id: travels as the tile's `id`; "" to leave it out (readers then take the URI).
        thumbnail_uri: a small copy for the page; "" when there is none.
    """

    uri: str
    image_id: str = ""
    thumbnail_uri: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What a page asks; the same for all pages of a job.

    Attributes:
        event_names: the classes without the "other" label, in the order of the buttons.
        other_label: the label that means "none of these"; it excludes the rest.
        positive_examples, negative_examples: `s3://` URIs shown with the instructions.
        multi_label: whether a tile may get several labels.
        instructions: what workers read on the page, as plain text with line breaks; "" for the page's own words alone.
    """

    event_names: tuple[str, ...]
    other_label: str = "Other"
    positive_examples: tuple[str, ...] = ()
    negative_examples: tuple[str, ...] = ()
    multi_label: bool = True
    instructions: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One page as it stands in the manifest.

    Attributes:
        line: its position in the manifest, from 0.
        tiles: (index, tile) in the page's order; an index is unique in the job.
    """

    task_id: str
    line: int
    tiles: tuple[tuple[int, Tile], ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """Lines for the service, and what is on them for ourselves."""

    lines: tuple[str, ...]
    tasks: tuple[Task, ...]

    @property
    def data(self) -> bytes:
        """The file: every line ends with a newline."""
        return "".join(line + "\n" for line in self.lines).encode()


class StoresObjects(Protocol):
    """The part of an object store that an upload needs."""

    def head(self, uri: str) -> Any:
        """Something when the object is there, else None."""
        ...

    def put(self, uri: str, data: bytes, content_type: str = ...) -> Any:
        """Store one object."""
        ...


def question(
    classes: Sequence[str],
    other_label: str = "Other",
    positive_examples: Sequence[str] = (),
    negative_examples: Sequence[str] = (),
    multi_label: bool = True,
) -> Question:
    """A checked question. `classes` may name the other label too; it is then asked only once.

    Raises:
        InvalidInput: no class, two labels that are equal after HTML decoding, trimming and case folding, or an
            example that is no S3 URI.
    """
    names = check_classes([html.unescape(name) for name in classes])
    (other,) = check_classes([html.unescape(other_label)], field="other_label")
    names = tuple(name for name in names if name != other)
    check_classes([*names, other])
    if not names:
        raise InvalidInput("the only class is the other label", field="classes", reason="NO_CLASSES")
    for uri in (*positive_examples, *negative_examples):
        _check_uri(uri, "example")
    return Question(names, other, tuple(positive_examples), tuple(negative_examples), multi_label)


def unique_tiles(tiles: Iterable[Tile]) -> tuple[list[Tile], int]:
    """The tiles without repeated images (same id, or same URI where there is no id), and how many were repeated."""
    found: dict[str, Tile] = {}
    count = 0
    for tile in tiles:
        found.setdefault(tile.image_id or tile.uri, tile)
        count += 1
    return list(found.values()), count - len(found)


def prepare_manifest(
    tiles: Sequence[Tile], asked: Question, group_size: int = GROUP_SIZE, task_prefix: str = "t"
) -> Manifest:
    """The manifest of images without an order of their own: packed into pages as `pack_pages` does.

    Raises:
        InvalidInput: see `build_manifest`; or `group_size` is below 1.
    """
    return build_manifest(pack_pages(tiles, group_size), asked, task_prefix)


def build_manifest(pages: Sequence[Sequence[Tile]], asked: Question, task_prefix: str = "t") -> Manifest:
    """The manifest of given pages.

    Tile j of page g gets the index `j * len(pages) + g`: unique in the job, and for interleaved pages the position
    in the whole list, as in the original.

    Raises:
        InvalidInput: a page is empty or has the same image twice, a URI is not S3, or a line is too long for Ground
            Truth; the error then names the group size that fits.
    """
    lines, tasks = [], []
    for number, page in enumerate(pages):
        task_id = f"{task_prefix}-{number:06d}"
        placed = tuple((position * len(pages) + number, tile) for position, tile in enumerate(page))
        if not placed or len({tile.image_id or tile.uri for tile in page}) < len(page):
            raise InvalidInput(f"page {number + 1} is empty or shows an image twice", field="pages", reason="BAD_PAGE")
        source = json.dumps(_tiles(placed, asked, task_id))
        line = json.dumps({"source": source, "gandt-task": task_id})
        if len(source) > MAX_ATTRIBUTE_CHARACTERS or len(line) > MAX_LINE_CHARACTERS:
            raise _too_long(number, source, line, placed, asked, task_id)
        lines.append(line)
        tasks.append(Task(task_id, number, placed))
    return Manifest(tuple(lines), tuple(tasks))


def prepare_manifest_compat(
    uris: Sequence[str],
    positive_examples: Sequence[str],
    negative_examples: Sequence[str],
    event_names: Sequence[str],
    other_label: str = "Other",
    group_size: int = GROUP_SIZE,
) -> list[str]:
    """The original's lines: nothing is checked, trimmed or de-duplicated.

    Source:
        The original project's `prepare_data.prepare_manifest`.
    """
    first = {
        "event_names": list(event_names),
        "positive_examples": list(positive_examples),
        "negative_examples": list(negative_examples),
        "other_category_label": other_label,
    }
    lines = []
    for page in pack_pages(list(enumerate(uris)), group_size):
        tiles: list[dict[str, Any]] = [{"source-ref": uri, "index": index} for index, uri in page]
        lines.append(json.dumps({"source": json.dumps([{**first, **tiles[0]}, *tiles[1:]])}))
    return lines


def upload(store: StoresObjects, prefix_uri: str, data: bytes, name: str = "input.manifest") -> str:
    """Store a job's file under a key that its content decides, so that repeating it changes nothing.

    Args:
        prefix_uri: `s3://bucket/prefix` without a final slash.
    Returns:
        `<prefix_uri>/<first 12 hex digits of the SHA-256>/<name>`.
    """
    uri = f"{prefix_uri.rstrip('/')}/{hashlib.sha256(data).hexdigest()[:12]}/{name}"
    if store.head(uri) is None:
        store.put(uri, data, "text/html; charset=utf-8" if name.endswith(".html") else "application/jsonlines")
    return uri


def _tiles(placed: Sequence[tuple[int, Tile]], asked: Question, task_id: str) -> list[dict[str, Any]]:
    return [_tile(index, tile, task_id, asked if place == 0 else None) for place, (index, tile) in enumerate(placed)]


def _tile(index: int, tile: Tile, task_id: str, asked: Question | None) -> dict[str, Any]:
    _check_uri(tile.uri, "image")
    out: dict[str, Any] = {"task": task_id}
    if tile.image_id:
        out["id"] = tile.image_id
    if asked is not None:
        out |= {
            "event_names": asked.event_names,
            "positive_examples": asked.positive_examples,
            "negative_examples": asked.negative_examples,
            "other_category_label": asked.other_label,
            "multi_label": asked.multi_label,
        }
        if asked.instructions:
            out["instructions"] = asked.instructions
    out |= {"source-ref": tile.uri, "index": index}
    if tile.thumbnail_uri:
        out["thumbnail-ref"] = tile.thumbnail_uri
    return out


def _check_uri(uri: str, what: str) -> None:
    if not uri.startswith("s3://") or uri.count("/") < 3:
        raise InvalidInput(
            f"{what} {uri!r} is not an S3 URI",
            field="uri",
            reason="NOT_AN_S3_URI",
            fix="give s3://bucket/key; workers' browsers read pictures from there",
        )


def _too_long(
    number: int, source: str, line: str, placed: Sequence[tuple[int, Tile]], asked: Question, task_id: str
) -> InvalidInput:
    """Names the line, and the largest group that is sure to fit: every tile counted as the page's longest."""
    tiles = _tiles(placed, asked, task_id)
    plain = [{key: value for key, value in tile.items() if key not in _FIRST_ONLY} for tile in tiles]
    longest = max(plain, key=lambda tile: len(json.dumps(tile)))
    longest_in_line = max(len(json.dumps(json.dumps(tile))) for tile in plain)
    header = {key: value for key, value in tiles[0].items() if key in _FIRST_ONLY}
    room = MAX_ATTRIBUTE_CHARACTERS - len(json.dumps([header]))
    room_in_line = MAX_LINE_CHARACTERS - len(json.dumps({"source": json.dumps([header]), "gandt-task": task_id}))
    fits = min(room // (len(json.dumps(longest)) + 2), room_in_line // (longest_in_line + 2))
    return InvalidInput(
        f"line {number + 1} of the manifest is too long for Ground Truth: its page of {len(placed)} images has "
        f"{len(source):,} characters of at most {MAX_ATTRIBUTE_CHARACTERS:,} ({len(line):,} of "
        f"{MAX_LINE_CHARACTERS:,} as a line)",
        field="group_size",
        reason="MANIFEST_LINE_TOO_LONG",
        fix=f"use a group size of at most {fits}"
        if fits > 0
        else "use shorter labels, instructions, URIs or fewer examples",
        metadata={"line": str(number + 1), "group_size": str(max(fits, 0))},
    )


_FIRST_ONLY = {
    "event_names",
    "positive_examples",
    "negative_examples",
    "other_category_label",
    "multi_label",
    "instructions",
}
