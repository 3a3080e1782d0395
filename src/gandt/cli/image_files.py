# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the images below some paths and in manifests, and names them. Nothing is kept: any number may come."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from gandt.cli.image_list import S3, ImageFile, ImageList
from gandt.domain.errors import GandtError, InvalidInput, NotFound, PermissionDenied
from gandt.ports.object_store import ObjectStore
from gandt.tables.files import SUFFIXES as TABLES
from gandt.tables.files import check_columns, read_rows
from gandt.tables.paths import is_inside, shown
from gandt.tables.vector_parts import key

# HEIC is not taken, but silently passing over somebody's photos would be worse than the error.
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
)


LONGEST_SHOWN = 300  # characters: longer than any name that a file system holds

Refuse = Callable[[str, GandtError], None]
Shard = tuple[int, int]
"""Which of how many, from 0."""
WHOLE: Shard = (0, 1)


def find_images(
    paths: Iterable[str],
    refuse: Refuse,
    manifest: str | None = None,
    shard: Shard = WHOLE,
    store_of: Callable[[str], ObjectStore] | None = None,
) -> ImageList:
    """The images of a shard below the paths and in the manifest. A file that is named itself is taken whatever its
    suffix.

    A link to a folder is not followed: below the path its files are found in their own place.

    Args:
        paths: folders, files, `s3://bucket/folder/` or `s3://bucket/key`.
        refuse: told of what cannot be read, by path, and why; the rest goes on.
        manifest: a list of paths and URIs, as `_manifest` reads it.
        store_of: gives the store in which a URI lies.
    Raises:
        NotFound: a path does not exist.
        InvalidInput: two files would get the same name.
        GandtError: NOTHING_TO_DO, there is no image; NOTHING_READABLE, all that is there was refused.
    """
    given = list(paths)
    refused = found = 0

    def tell(path: str, error: GandtError) -> None:
        nonlocal refused
        refused += 1
        refuse(path, error)

    def mine() -> Iterator[ImageFile]:
        nonlocal found
        for path in given:
            for image in _in_store(path, store_of, tell) if path.startswith(S3) else _below(Path(path), tell):
                found += 1
                if is_in(shard, image.image):
                    yield image
        for image in _manifest(manifest, tell) if manifest else ():
            found += 1
            if is_in(shard, image.image):
                yield image

    images = ImageList(mine())
    names = ", ".join(map(shown, [*given, *([manifest] if manifest else [])]))
    if refused and not found:
        raise GandtError(
            f"nothing in {names} can be read; the warnings say why",
            reason="NOTHING_READABLE",
            fix="change the permissions, or name another folder",
        )
    if not found:
        raise GandtError(
            f"there are no images in {names}",
            reason="NOTHING_TO_DO",
            fix="name a folder with JPEG, PNG, WebP, GIF, BMP or TIFF files",
        )
    return images


def parse_shard(text: str | None) -> Shard:
    """`i/n`, i from 0; everything without a text.

    Raises:
        InvalidInput: not of that form.
    """
    if text is None:
        return WHOLE
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
    return index, count


def is_in(shard: Shard, image: str) -> bool:
    """Whether the image belongs to the shard: by its name alone, so that new files change no other file's shard."""
    return shard[1] == 1 or key(image) % shard[1] == shard[0]


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

    folders = [str(path)]
    while folders:
        folder = folders.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        yield from _entry(entry, path, folders, refuse)
        except OSError as error:
            refuse(shown(folder), _unreadable(Path(folder), error))


def _entry(entry: os.DirEntry[str], root: Path, folders: list[str], refuse: Refuse) -> Iterator[ImageFile]:
    """The image that an entry is, if it is one; a folder is added to those to be walked."""
    if _is_folder(entry):
        if not entry.is_symlink():
            folders.append(entry.path)
        elif not is_inside(Path(entry.path), root):
            refuse(shown(entry.path), _link_out(Path(entry.path)))
        return
    file = Path(entry.path)
    if file.suffix.lower() not in SUFFIXES:
        return
    try:
        yield _file(file.relative_to(root).as_posix(), file, entry.stat())
    except OSError as error:
        refuse(shown(file), _unreadable(file, error))
    except InvalidInput as error:
        refuse(shown(file), error)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a loop of links, say; reading it tells more
        return False


def _in_store(path: str, store_of: Callable[[str], ObjectStore] | None, refuse: Refuse) -> Iterator[ImageFile]:
    """The object of that URI, or the images below it."""
    if store_of is None:
        raise InvalidInput(f"{path} cannot be read here", field="PATH", reason="USAGE", fix="name a folder")
    store = store_of(path)
    name = path.removeprefix(S3).partition("/")[2]
    info = store.head(path) if name and not name.endswith("/") else None
    if info is not None:
        yield ImageFile(path, path, _version(info.etag), info.size)
        return
    folder = path if path.endswith("/") else f"{path}/"
    for info in store.list(folder, lambda skipped: refuse(skipped.uri, skipped.error)):
        name = info.uri.removeprefix(folder)
        if PurePosixPath(name).suffix.lower() in SUFFIXES and not any(p.startswith(".") for p in name.split("/")):
            yield ImageFile(name, info.uri, _version(info.etag), info.size)


def _manifest(path: str, refuse: Refuse) -> Iterator[ImageFile]:
    """A text file (or `-`) with a path or URI a line, or a table with a column `image`, or `uri`, or both: then `image`
    is the name. What lies in a store is not asked for before it is read."""
    for name, place in _manifest_rows(path):
        if place.startswith(S3):
            yield ImageFile(name, place, 0, 0)
            continue
        file = Path(place)
        try:
            yield _file(name, file, file.stat())
        except OSError as error:
            refuse(shown(name), _unreadable(file, error))
        except InvalidInput as error:
            refuse(shown(name), error)


def _manifest_rows(path: str) -> Iterator[tuple[str, str]]:
    if Path(path).suffix.lower() not in TABLES:
        yield from ((line, line) for line in _lines(path))
        return
    for row in read_rows(path, ()):
        image, uri = row.text("image").strip(), row.text("uri").strip()
        if not image and not uri:
            check_columns(list(row.values), path, ("image",))
            raise InvalidInput(f"{row.where}: column 'image' is empty", field="image", reason="EMPTY_CELL")
        yield image or uri, uri or image


def _lines(path: str) -> Iterator[str]:
    try:
        with open(0 if path == "-" else path, encoding="utf-8", errors="surrogateescape", closefd=path != "-") as lines:
            yield from (stripped for line in lines if (stripped := line.rstrip("\r\n")))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", kind="file", id=path, reason="FILE_NOT_FOUND") from error
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", reason="FILE_UNREADABLE") from error


def _file(image: str, path: Path, facts: os.stat_result) -> ImageFile:
    """The file; what is none (opening a pipe would wait forever) or has no name that a table can hold is refused."""
    if not stat.S_ISREG(facts.st_mode):
        raise InvalidInput(
            f"{shown(path)} is no file but a pipe, a socket or a device",
            field="PATH",
            reason="NOT_A_FILE",
            fix="name files, or the folder that holds them",
        )
    if shown(image) != image:
        raise InvalidInput(
            f"the name of {shown(path)} is not UTF-8", field="PATH", reason="FILE_NAME", fix="rename the file"
        )
    return ImageFile(image, str(path), _version(f"{facts.st_mtime_ns}-{facts.st_size}"), facts.st_size)


def _version(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _is_link(path: Path) -> bool:
    return os.path.islink(path)  # noqa: PTH114  # unlike pathlib it raises nothing: no permission, a path too long


def _link_out(link: Path) -> GandtError:
    return PermissionDenied(
        f"{shown(link)} is a link to a folder, which is not followed",
        reason="LINK_OUT_OF_FOLDER",
        fix="name that folder too",
    )


def _unreadable(path: Path, error: OSError) -> GandtError:
    name = shown(path)
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
