# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the image files below some paths and names them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gandt.domain.errors import GandtError, InvalidInput, NotFound, PermissionDenied

# HEIC is not taken, but silently passing over somebody's photos would be worse than the error.
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)


LONGEST_SHOWN = 300  # characters: longer than any name that a file system holds


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


Refuse = Callable[[str, GandtError], None]


def find_images(paths: Iterable[str], refuse: Refuse) -> list[ImageFile]:
    """All images below the paths, ordered by name. A file that is named itself is taken whatever its suffix.

    A link to a folder is not followed: below the path its files are found in their own place.

    Args:
        refuse: told of what cannot be read, by path, and why; the rest goes on.
    Raises:
        NotFound: a path does not exist.
        InvalidInput: two files would get the same name.
        GandtError: NOTHING_TO_DO, there is no image; NOTHING_READABLE, all that is there was refused.
    """
    given = list(paths)
    refused = 0

    def tell(path: str, error: GandtError) -> None:
        nonlocal refused
        refused += 1
        refuse(path, error)

    found: dict[str, ImageFile] = {}
    for path in given:
        for image in _below(Path(path), tell):
            other = found.setdefault(image.image, image)
            if other is not image and not other.path.samefile(image.path):
                raise InvalidInput(
                    f"{other.path} and {image.path} would both be named {image.image!r}",
                    field="PATH",
                    reason="SAME_NAME",
                    fix="give the folder that holds both",
                )
    if refused and not found:
        raise GandtError(
            f"nothing in {', '.join(map(shown_name, given))} can be read; the warnings say why",
            reason="NOTHING_READABLE",
            fix="change the permissions, or name another folder",
        )
    if not found:
        raise GandtError(
            f"there are no images in {', '.join(map(shown_name, given))}",
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


def shown_name(path: str | Path) -> str:
    r"""A path for people: bytes that are not UTF-8 as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def short(name: str) -> str:
    """The name, its middle left out when it is very long."""
    return name if len(name) <= LONGEST_SHOWN else f"{name[:100]} ... {name[-100:]}"


def _below(path: Path, refuse: Refuse) -> Iterator[ImageFile]:
    try:
        facts = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISDIR(facts.st_mode):
        yield _file(path.as_posix(), path, facts)
        return

    def told(error: OSError) -> None:
        refuse(shown_name(error.filename), _unreadable(Path(error.filename), error))

    for folder, folders, files in os.walk(path, onerror=told):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            link = Path(folder, name)
            if _is_link(link) and not _is_inside(link, path):
                refuse(shown_name(link), _link_out(link))
        for name in files:
            file = Path(folder, name)
            if file.suffix.lower() not in SUFFIXES or name.startswith("."):
                continue
            image = file.relative_to(path).as_posix()
            try:
                yield _file(image, file, file.stat())
            except OSError as error:
                refuse(shown_name(file), _unreadable(file, error))
            except InvalidInput as error:
                refuse(shown_name(file), error)


def _file(image: str, path: Path, facts: os.stat_result) -> ImageFile:
    """The file; what is none (opening a pipe would wait forever) or has no name that a table can hold is refused."""
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput(
            f"{shown_name(path)} is no file but a pipe, a socket or a device",
            field="PATH",
            reason="NOT_A_FILE",
            fix="name files, or the folder that holds them",
        )
    if shown_name(image) != image:
        raise InvalidInput(
            f"the name of {shown_name(path)} is not UTF-8", field="PATH", reason="FILE_NAME", fix="rename the file"
        )
    return ImageFile(image, path, facts.st_mtime, facts.st_size)


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114  # unlike pathlib it raises nothing: no permission, a path too long


def _is_inside(link: Path, folder: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        return False


def _link_out(link: Path) -> GandtError:
    return PermissionDenied(
        f"{shown_name(link)} is a link to a folder, which is not followed",
        reason="LINK_OUT_OF_FOLDER",
        fix="name that folder too",
    )


def _unreadable(path: Path, error: OSError) -> GandtError:
    name = shown_name(path)
    if (_is_link(path) and isinstance(error, FileNotFoundError | NotADirectoryError)) or error.errno == errno.ELOOP:
        return NotFound(
            f"{name} is a link that leads nowhere",
            kind="file",
            id=name,
            reason="BROKEN_LINK",
            fix="mend the link, or delete it",
        )
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(f"there is no file or folder {name}", kind="path", id=name, reason="PATH_NOT_FOUND")
    return GandtError(
        f"{short(name)} cannot be read: {error.strerror}",
        reason="CANNOT_READ",
        fix="change its permissions, or name what can be read",
    )
