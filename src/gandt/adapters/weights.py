# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds a model's weights: a file or an object, its SHA-256, and the description that lies beside it (no torch).

The description `NAME.safetensors.toml` says what the numbers were trained with; without it a file is taken for one of
torchvision's own. An example is in docs/how-to/embedding-weights.md.
"""

from __future__ import annotations

import difflib
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gandt.domain.embedding import Preprocessing
from gandt.domain.errors import CorruptData, InvalidInput, NotFound
from gandt.ports.object_store import ObjectStore

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_KEYS = (
    "architecture",
    "classes",
    "size",
    "resize",
    "resize_side",
    "interpolation",
    "scale",
    "mean",
    "std",
    "channel_order",
    "rotate180",
    "sha256",
    "source",
    "license",
)


@dataclass(frozen=True, slots=True)
class WeightsDescription:
    """What a description file says.

    Attributes:
        where: the description's place, for messages.
        architecture: torchvision's name, or "" when any is taken.
        classes: outputs of the classifier that the weights were trained with.
        preprocessing: what the images go through.
        sha256: lower-case hex of the weights file, or "".
    """

    where: str
    classes: int
    preprocessing: Preprocessing
    architecture: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """Weights as bytes, checked against their hash.

    Attributes:
        source: where they came from, without credentials.
        description: None when there is none beside the file.
    """

    data: bytes
    sha256: str
    source: str
    description: WeightsDescription | None


def read_weights(location: str, objects: ObjectStore, *, config: str = "", sha256: str = "") -> WeightsFile:
    """The weights at a path or an `s3://` URI.

    Args:
        config: path or URI of the description; "" looks for `<location>.toml`.
        sha256: what the file must hash to; "" takes the description's, or for a local file none.
    Raises:
        NotFound: no file or object there.
        InvalidInput: not a weights file, no hash for an object, or a bad description.
        CorruptData: the hash differs.
    """
    if not location.lower().endswith(SUFFIXES):
        raise InvalidInput(
            f"weights {location} are in an unknown format",
            field="weights",
            reason="WEIGHTS_FORMAT",
            fix=f"give a file that ends in {', '.join(SUFFIXES)}, or DEFAULT for torchvision's download",
        )
    description = _description(location, config, objects)
    expected = (sha256 or (description.sha256 if description else "")).lower()
    if location.startswith("s3://") and not expected:
        raise InvalidInput(
            f"weights {location} come without a checksum",
            field="weights_sha256",
            reason="WEIGHTS_SHA256_MISSING",
            fix="set weights_sha256, or sha256 in the description file",
        )
    data = read_bytes(location, objects, "weights")
    return WeightsFile(data, check_sha256(data, expected, location), location, description)


def check_sha256(data: bytes, expected: str, location: str) -> str:
    """The hash of the bytes.

    Args:
        expected: all of it, or the first digits as in torchvision's file names; "" accepts any.
    Raises:
        CorruptData: the bytes hash to something else.
    """
    actual = hashlib.sha256(data).hexdigest()
    if not actual.startswith(expected):
        raise CorruptData(
            f"weights {location} have the SHA-256 {actual}, expected was {expected}",
            kind="weights",
            id=location,
            reason="WEIGHTS_SHA256_MISMATCH",
            fix="fetch the file again, or correct the expected hash",
        )
    return actual


def parse_description(text: str, where: str) -> WeightsDescription:
    """A description from its TOML text.

    Raises:
        InvalidInput: no TOML, an unknown key (names the nearest), a missing or bad value.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _bad(where, f"is no TOML: {error}") from error
    for key in table:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0.5)
            raise _bad(
                where,
                f"has the unknown key {key!r}",
                f"did you mean {near[0]}?" if near else f"known keys: {', '.join(_KEYS)}",
            )
    classes = _get(table, where, "classes", int, 0)
    if classes < 1:
        raise _bad(where, "says no number of classes", "add classes = N, the outputs of the trained classifier")
    preprocessing = _preprocessing(table, where)
    return WeightsDescription(
        where,
        classes,
        preprocessing,
        architecture=_get(table, where, "architecture", str, ""),
        sha256=_get(table, where, "sha256", str, "").lower(),
    )


def _preprocessing(table: Mapping[str, Any], where: str) -> Preprocessing:
    size = table.get("size", 224)
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(type(side) is int for side in sides):
        raise _bad(where, f"has size = {size!r}", "write size = 224 or size = [height, width]")
    resize = _choice(table, where, "resize", "crop" if "resize_side" in table else "stretch", ("stretch", "crop"))
    order = _choice(table, where, "channel_order", "rgb", ("rgb", "bgr"))
    values: dict[str, Any] = {
        "height": sides[0],
        "width": sides[1],
        "resize_side": _get(table, where, "resize_side", int, max(sides)) if resize == "crop" else 0,
        "interpolation": _get(table, where, "interpolation", str, "bilinear"),
        "scale": float(_get(table, where, "scale", (int, float), 255.0)),
        "mean": _channels(table, where, "mean", 0.0),
        "std": _channels(table, where, "std", 1.0),
        "bgr": order == "bgr",
        "rotate180": _get(table, where, "rotate180", bool, False),
    }
    try:
        return Preprocessing(**values)
    except InvalidInput as error:
        raise _bad(where, f"cannot be followed: {error.message}") from error


def _description(location: str, config: str, objects: ObjectStore) -> WeightsDescription | None:
    where = config or f"{location}.toml"
    try:
        data = read_bytes(where, objects, "description")
    except NotFound:
        if config:
            raise
        return None
    try:
        return parse_description(data.decode(), where)
    except UnicodeDecodeError as error:
        raise _bad(where, "is no UTF-8 text") from error


def read_bytes(location: str, objects: ObjectStore, kind: str) -> bytes:
    """A file's or an object's bytes.

    Args:
        kind: what it is, for the error.
    Raises:
        NotFound: <KIND>_NOT_FOUND.
    """
    if location.startswith("s3://"):
        return objects.get(location)
    try:
        return Path(location).expanduser().read_bytes()
    except OSError as error:
        raise NotFound(
            f"{kind} file {location} cannot be read: {error.strerror}",
            kind=kind,
            id=location,
            reason=f"{kind.upper()}_NOT_FOUND",
        ) from error


def _get(table: Mapping[str, Any], where: str, key: str, kind: type | tuple[type, ...], default: Any) -> Any:
    value = table.get(key, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _bad(where, f"has {key} = {value!r}, which is of the wrong kind")
    return value


def _choice(table: Mapping[str, Any], where: str, key: str, default: str, allowed: tuple[str, ...]) -> str:
    value = table.get(key, default)
    if value not in allowed:
        raise _bad(where, f"has {key} = {value!r}", f"allowed are {', '.join(allowed)}")
    return str(value)


def _channels(table: Mapping[str, Any], where: str, key: str, default: float) -> tuple[float, float, float]:
    value = table.get(key, default)
    values = value if isinstance(value, list) else [value] * 3
    if len(values) != 3 or not all(type(number) in (int, float) for number in values):
        raise _bad(where, f"has {key} = {value!r}", f"write one number or three, as in {key} = [0.5, 0.5, 0.5]")
    return (float(values[0]), float(values[1]), float(values[2]))


def _bad(where: str, what: str, fix: str = "") -> InvalidInput:
    return InvalidInput(
        f"weights description {where} {what}", field="weights_config", reason="BAD_WEIGHTS_CONFIG", fix=fix
    )
