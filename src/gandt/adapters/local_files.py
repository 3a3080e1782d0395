# SPDX-License-Identifier: GPL-3.0-or-later
"""The object store in a folder: `s3://bucket/key` is the file `root/bucket/key`.

A put writes a temporary file, forces it to disk and renames it, so a crash leaves the old object or the new one.
A *mount* maps a bucket of its own onto a folder of photos, read-only and without copying; `root/.mounts.json` keeps
the mounts and other processes read it on their next miss. No key can name a file outside its bucket's folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from gandt.adapters import file_names
from gandt.adapters.folder_walk import Odd, walk
from gandt.adapters.fsync import sync
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, NotFound, PermissionDenied, WrongState
from gandt.domain.images import join_uri, split_uri
from gandt.ports.object_store import ObjectInfo, SkippedObject
from gandt.tables.paths import shown

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_TRIES = 20
_STALE_SECONDS = 24 * 3600  # a temporary file this old belongs to a killed process


class LocalFiles:
    """Objects as files below one folder; safe for several threads and processes.

    Args:
        root: made when the first object is stored.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._mounts: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._sweep()

    def get(self, uri: str) -> bytes:
        """See `ObjectStore.get`."""
        with self.open(uri) as file:
            try:
                return file.read()
            except OSError as e:
                raise _translated(e, self.path_of(uri)) from e

    def open(self, uri: str) -> BinaryIO:
        """See `ObjectStore.open`."""
        path = self.path_of(uri)
        try:
            return path.open("rb")
        except FileNotFoundError as e:
            raise NotFound(f"object {uri} does not exist", kind="object", id=uri) from e
        except OSError as e:
            raise _translated(e, path) from e

    def path_of(self, uri: str) -> Path:
        """The file of an object, for readers that stream or seek.

        Raises:
            NotFound: no such object.
        """
        path, _ = self._existing(uri)
        if path is None:
            raise NotFound(f"object {uri} does not exist", kind="object", id=uri)
        return path

    def put(self, uri: str, data: bytes, content_type: str = "application/octet-stream") -> ObjectInfo:
        """See `ObjectStore.put`. The content type is not kept: a file's suffix says it."""
        del content_type
        folder, path = self._writable(uri)
        try:
            temporary = self._write_temporary(data)
            try:
                _rename(temporary, folder, path)
            finally:
                temporary.unlink(missing_ok=True)
            return _info(uri, path.stat())
        except OSError as e:
            raise _translated(e, path) from e

    def head(self, uri: str) -> ObjectInfo | None:
        """See `ObjectStore.head`."""
        path, stat = self._existing(uri)
        return None if path is None or stat is None else _info(uri, stat)

    def list(self, prefix_uri: str, skipped: Callable[[SkippedObject], None] | None = None) -> Iterator[ObjectInfo]:
        """See `ObjectStore.list`. Without `skipped`, names that are not UTF-8 and links out of a mount are left out."""
        bucket, prefix = split_uri(prefix_uri)
        folder, mounted = self._folder(bucket)
        parent = prefix.rpartition("/")[0]
        if mounted and any(part in ("", ".", "..") for part in parent.split("/")):
            parent = ""  # no file's path starts so: nothing will match
        start = folder / (parent if mounted else file_names.encoded(parent)) if parent else folder
        found = []
        for seen in walk(folder, start):
            key = file_names.key_of(seen.path, mounted)
            place = (shown(seen.path) if key is None else key) if seen.path.parts else ""
            hides = isinstance(seen.error, OSError) and (not place or prefix.startswith(f"{place}/"))
            if not hides and not f"{place}/".startswith(prefix):
                continue
            if seen.error is not None:
                if skipped is not None:
                    skipped(SkippedObject(join_uri(bucket, place), _unlistable(seen.error, folder / seen.path)))
                elif isinstance(seen.error, OSError):
                    raise _translated(seen.error, folder / seen.path) from seen.error
            elif key is None:
                if skipped is not None:
                    skipped(SkippedObject(join_uri(bucket, place), _nameless(folder / seen.path)))
            elif seen.stat is not None and key.startswith(prefix):
                found.append(_info(join_uri(bucket, key), seen.stat))
        return iter(sorted(found, key=lambda info: info.uri.encode()))

    def delete(self, uri: str) -> None:
        """See `ObjectStore.delete`."""
        folder, path = self._writable(uri)
        try:
            path.unlink(missing_ok=True)
        except (NotADirectoryError, IsADirectoryError):
            return
        except OSError as e:
            raise _translated(e, path) from e
        for parent in path.parents:  # an emptied folder must not stand in the way of a key of that name
            if parent in (folder, *folder.parents):
                break
            with contextlib.suppress(OSError):
                parent.rmdir()

    def has_bucket(self, bucket: str) -> bool:
        """Whether the bucket has a folder here, its own or a mounted one."""
        return self._folder(bucket)[0].is_dir()

    def mount(self, folder: Path) -> str:
        """Map a bucket of its own onto a folder, read-only; the same folder always gets the same bucket.

        Returns:
            The bucket: `<folder's name>-<8 hex digits of the path's hash>`.
        Raises:
            NotFound: no such folder (`kind="folder"`).
        """
        folder = Path(folder).resolve()
        if not folder.is_dir():
            raise NotFound(f"{folder} is not a folder", kind="folder", id=str(folder), reason="FOLDER_NOT_FOUND")
        name = re.sub(r"[^a-z0-9]+", "-", folder.name.lower()).strip("-")[:40] or "folder"
        bucket = f"{name}-{hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]}"
        record = self.root / ".mounts.json"
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with self._lock, (self.root / ".mounts.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be adding a mount too
                mounts = self._read_mounts() | {bucket: folder}
                text = json.dumps({name: str(path) for name, path in sorted(mounts.items())}, indent=1)
                temporary = self._write_temporary(text.encode())
                _rename(temporary, self.root, record)
                self._mounts = mounts
        except OSError as e:
            raise _translated(e, record) from e
        return bucket

    def _read_mounts(self) -> dict[str, Path]:
        try:
            text = (self.root / ".mounts.json").read_text()
        except FileNotFoundError:
            return {}
        return {bucket: Path(folder) for bucket, folder in json.loads(text).items()}

    def _folder(self, bucket: str) -> tuple[Path, bool]:
        """A bucket's folder, and whether it is a mount."""
        if not _BUCKET.fullmatch(bucket):
            raise InvalidInput(f"{bucket!r} is not a bucket's name", field="uri", reason="BUCKET_NAME")
        own = self.root / bucket
        if bucket not in self._mounts and not own.is_dir():
            with self._lock:
                self._mounts = self._read_mounts()
        mounted = self._mounts.get(bucket)
        return (mounted, True) if mounted else (own, False)

    def _path(self, uri: str) -> tuple[Path, Path, bool]:
        """Folder of the bucket, file of the object, and whether the bucket is a mount."""
        bucket, key = split_uri(uri)
        if not key:
            raise InvalidInput(f"{uri!r} names a bucket and no key", field="uri", fix="write it as s3://bucket/key")
        folder, mounted = self._folder(bucket)
        path = folder / (file_names.plain(key) if mounted else file_names.encoded(key))
        try:
            inside = path.resolve().is_relative_to(folder.resolve())
        except (OSError, RuntimeError):  # a link that leads to itself, or a path too long: no such object
            return folder, path, mounted
        if not inside:  # a link that leads out of the bucket
            raise PermissionDenied(
                f"{uri} is a link to a file outside {folder}", reason="LINK_OUT_OF_FOLDER", fix="copy the file in"
            )
        return folder, path, mounted

    def _existing(self, uri: str) -> tuple[Path, os.stat_result] | tuple[None, None]:
        _, path, _ = self._path(uri)
        try:
            stat = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        except OSError as e:
            if e.errno in (errno.ENAMETOOLONG, errno.ELOOP):
                return None, None
            raise _translated(e, path) from e
        return (path, stat) if path.is_file() else (None, None)

    def _writable(self, uri: str) -> tuple[Path, Path]:
        folder, path, mounted = self._path(uri)
        if mounted:
            raise PermissionDenied(
                f"{uri} lies in the photo folder {folder}, which is mapped read-only",
                reason="READ_ONLY_BUCKET",
                fix="write to another bucket",
            )
        return folder, path

    def _write_temporary(self, data: bytes) -> Path:
        folder = self.root / ".tmp"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / uuid.uuid4().hex
        try:
            with path.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _sweep(self) -> None:
        """Remove what killed processes left half-written."""
        with contextlib.suppress(OSError):
            for path in (self.root / ".tmp").iterdir():
                if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                    path.unlink()


def _rename(temporary: Path, folder: Path, path: Path) -> None:
    """Put the finished file in its place and make the place durable."""
    for attempt in range(_TRIES):
        made = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.replace(path)
            break
        except (FileExistsError, FileNotFoundError):  # a delete took the emptied folder away in between
            if attempt == _TRIES - 1:
                raise
    for place in {path.parent, *(parent.parent for parent in made)}:
        if place.is_relative_to(folder.parent):
            sync(place)


def _info(uri: str, stat: os.stat_result) -> ObjectInfo:
    etag = f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"  # every put makes a new inode
    return ObjectInfo(uri, stat.st_size, etag, datetime.fromtimestamp(stat.st_mtime, UTC))


def _unlistable(error: OSError | Odd, path: Path) -> GandtError:
    """Why a file or folder of a listing is left out."""
    where = shown(path)
    if error is Odd.BROKEN_LINK:
        return NotFound(
            f"{where} is a link that leads nowhere",
            kind="file",
            id=where,
            reason="BROKEN_LINK",
            fix="mend the link, or delete it",
        )
    if error is Odd.LINK_OUT:
        return PermissionDenied(
            f"{where} is a link that leads out of the folder",
            reason="LINK_OUT_OF_FOLDER",
            fix="copy what it leads to into the folder, or name that folder too",
        )
    if error is Odd.NO_FILE:
        return InvalidInput(
            f"{where} is no file but a pipe, a socket or a device",
            field="uri",
            reason="NOT_A_FILE",
            fix="move it out of the folder",
        )
    return _translated(error, Path(where))


def _nameless(path: Path) -> GandtError:
    where = shown(path)
    return InvalidInput(
        f"the name of {where} cannot be a key: it is not UTF-8, or not written as this store writes names",
        field="uri",
        reason="FILE_NAME",
        fix="rename the file",
    )


def _translated(error: OSError, path: Path) -> GandtError:
    """The domain error of a failed file operation, naming the path and the way out."""
    said = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WrongState(
            f"no space left to write {path}: {said}",
            kind="disk",
            id=str(path),
            state="full",
            reason="DISK_FULL",
            fix="free some space and repeat; nothing was changed",
        )
    if error.errno == errno.EROFS:
        return PermissionDenied(f"{path} is on a read-only disk", reason="DISK_READ_ONLY", fix="choose another folder")
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionDenied(
            f"no permission for {path}: {said}", reason="FILE_PERMISSION", fix="change its owner or mode"
        )
    if error.errno == errno.ENAMETOOLONG:
        return InvalidInput(
            f"the file system cannot hold a name or path as long as {str(path)[:80]}...{path.name[-20:]}",
            field="uri",
            reason="NAME_TOO_LONG",
            fix="use shorter names, or fewer folders in folders",
        )
    if error.errno in (errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY):
        return InvalidInput(
            f"{path} cannot be an object and a folder of objects at once",
            field="uri",
            reason="KEY_IS_A_FOLDER",
            fix="choose another key",
        )
    return BackendUnavailable(f"cannot read or write {path}: {said}", backend="files", reason="DISK_ERROR")
