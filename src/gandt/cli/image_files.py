# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the image files below some paths and names them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gandt.domain.errors import GandtError, InvalidInput, NotFound

# HEIC is not taken, but silently passing over somebody's photos would be worse than the error.
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file.

    Attributes:
        image: its name in tables: the path relative to the folder given, or the path of a file as given.
        changed_at: seconds since 1970.
        size: bytes.
    """

    image: str
    path: Path
    changed_at: float
    size: int


def find_images(paths: Iterable[str]) -> list[ImageFile]:
    """All images below the paths, ordered by name. A file that is named itself is taken whatever its suffix.

    Raises:
        NotFound: a path does not exist.
        InvalidInput: two files would get the same name.
        GandtError: NOTHING_TO_DO, there is no image.
    """
    given = list(paths)
    found: dict[str, ImageFile] = {}
    for path in given:
        for image in _below(Path(path)):
            other = found.setdefault(image.image, image)
            if other is not image and not other.path.samefile(image.path):
                raise InvalidInput(
                    f"{other.path} and {image.path} would both be named {image.image!r}",
                    field="PATH",
                    reason="SAME_NAME",
                    fix="give the folder that holds both",
                )
    if not found:
        raise GandtError(
            f"there are no images in {', '.join(given)}",
            reason="NOTHING_TO_DO",
            fix="name a folder with JPEG, PNG, WebP, GIF, BMP or TIFF files",
        )
    return [found[name] for name in sorted(found, key=os.fsencode)]


def shard(images: list[ImageFile], text: str) -> list[ImageFile]:
    """The images of shard `i/n` (i from 0): every n-th of the ordered list, so that shards are alike.

    Raises:
        InvalidInput: not of that form.
    """
    try:
        index, count = (int(part) for part in text.split("/"))
    except ValueError:
        index, count = -1, 0
    if not 0 <= index < count:
        raise InvalidInput(
            f"--shard {text} is not of the form i/n",
            field="shard",
            reason="BAD_SHARD",
            fix="i counts from 0, as in --shard 0/4 to --shard 3/4",
        )
    return images[index::count]


def _below(path: Path) -> Iterator[ImageFile]:
    if path.is_file():
        yield _file(path.as_posix(), path)
        return
    if not path.is_dir():
        raise NotFound(f"there is no file or folder {path}", kind="path", id=str(path), reason="PATH_NOT_FOUND")
    for folder, names, files in os.walk(path, onerror=_refuse):
        names[:] = [name for name in names if not name.startswith(".")]
        for name in files:
            file = Path(folder, name)
            if file.suffix.lower() in SUFFIXES and not name.startswith(".") and file.is_file():
                yield _file(file.relative_to(path).as_posix(), file)


def _file(image: str, path: Path) -> ImageFile:
    facts = path.stat()
    return ImageFile(image, path, facts.st_mtime, facts.st_size)


def _refuse(error: OSError) -> None:
    raise GandtError(
        f"folder {error.filename} cannot be read: {error.strerror}",
        reason="CANNOT_READ",
        fix="change its permissions, or name the folders that can be read",
    ) from error
