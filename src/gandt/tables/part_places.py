# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the parts of an output lie: a folder, or a place in an object store. A part is there whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Protocol

from gandt.domain.errors import GandtError, WrongState
from gandt.ports.object_store import ObjectStore

SUFFIX = ".parquet"
STORED = "s3://"


class PartPlace(Protocol):
    """Files by name. One process at a time for each shard."""

    @property
    def flush_seconds(self) -> float:
        """Longest time between two parts; at most this much work is lost."""
        ...

    def names(self) -> list[str]:
        """The parts, in no order."""
        ...

    def reading(self, name: str) -> contextlib.AbstractContextManager[str]:
        """A local path of a part. Raises NotFound."""
        ...

    def writing(self, name: str) -> contextlib.AbstractContextManager[str]:
        """A local path for a part, which is there once the block ends well."""
        ...

    def remove(self, name: str) -> None:
        """Takes a part away; no error when it is gone."""
        ...

    def close(self) -> None:
        """Lets others go on, and leaves no empty folder behind."""
        ...

    def whole_name(self, name: str) -> str:
        """A part's place, for messages."""
        ...


class FolderPlace:
    """A folder, locked for one shard.

    Args:
        name: of the shard's parts, without their number.
        output: what is being made, for messages.
    Raises:
        WrongState: another process makes the same.
        GandtError: the folder cannot be written.
    """

    flush_seconds = 10.0

    def __init__(self, folder: Path, name: str, output: str) -> None:
        self._folder, self._name = folder, name
        self._lock = _locked(folder, name, output)
        for scratch in folder.glob(f".{name}-*.tmp"):  # of a killed run; we hold the lock
            scratch.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """See `PartPlace`."""
        return [path.name for path in self._folder.glob(f"part-*{SUFFIX}")]

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[str]:
        """See `PartPlace`."""
        yield str(self._folder / name)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """See `PartPlace`. The writer of vectors puts a whole file in its place."""
        yield str(self._folder / name)

    def remove(self, name: str) -> None:
        """See `PartPlace`."""
        (self._folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """See `PartPlace`."""
        with contextlib.suppress(OSError):  # only where nothing was saved
            (self._folder / f".{self._name}.lock").unlink()
            self._folder.rmdir()
        self._lock.close()

    def whole_name(self, name: str) -> str:
        """See `PartPlace`."""
        return str(self._folder / name)


class StorePlace:
    """Objects below a URI. A store has no locks: who starts one shard twice at once embeds it twice.

    Args:
        uri: `s3://bucket/folder`, without a slash at the end.
    """

    flush_seconds = 30.0  # each part is a request or two

    def __init__(self, objects: ObjectStore, uri: str) -> None:
        self._objects, self._uri = objects, uri
        self._scratch = tempfile.TemporaryDirectory(prefix="gandt-parts-")

    def names(self) -> list[str]:
        """See `PartPlace`."""
        start = f"{self._uri}/part-"
        found = (info.uri.removeprefix(f"{self._uri}/") for info in self._objects.list(start))
        return [name for name in found if name.endswith(SUFFIX) and "/" not in name]

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[str]:
        """See `PartPlace`."""
        path = Path(self._scratch.name, name)
        path.write_bytes(self._objects.get(self.whole_name(name)))
        try:
            yield str(path)
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[str]:
        """See `PartPlace`."""
        path = Path(self._scratch.name, name)
        try:
            yield str(path)
            self._objects.put(self.whole_name(name), path.read_bytes())
        finally:
            path.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """See `PartPlace`."""
        self._objects.delete(self.whole_name(name))

    def close(self) -> None:
        """See `PartPlace`."""
        self._scratch.cleanup()

    def whole_name(self, name: str) -> str:
        """See `PartPlace`."""
        return f"{self._uri}/{name}"


def _locked(folder: Path, name: str, output: str) -> IO[str]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / f".{name}.lock").open("w")
    except OSError as error:
        raise GandtError(
            f"{folder} cannot be written: {error.strerror or error}",
            reason="CANNOT_WRITE",
            fix="choose another place with -o, or free the disk",
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise WrongState(
            f"{output} is being made by another process",
            kind="file",
            id=output,
            reason="OUTPUT_IN_USE",
            fix="wait for it, or name another file with -o",
        ) from error
    return lock
