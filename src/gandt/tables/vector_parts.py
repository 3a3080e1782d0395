# SPDX-License-Identifier: GPL-3.0-or-later
"""Vectors of many images in the making: parts in a folder or an object store, each written atomically.

The output is that place itself, or a file into which the parts (in `NAME.parquet.parts/`) are joined at the end. A
killed run leaves whole parts behind and the next one goes on from there. Each part says in its metadata which version
of which image its rows were made from, so that what was changed since does not count. In memory an image costs 24
bytes. Several shards may write into one folder at the same time.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import CorruptData, InvalidInput, NotFound, WrongState
from gandt.domain.vectors import VectorSet
from gandt.ports.object_store import ObjectStore
from gandt.tables.files import open_parquet
from gandt.tables.part_index import PartIndex
from gandt.tables.part_places import STORED, SUFFIX, FolderPlace, PartPlace, StorePlace
from gandt.tables.vectors import MODEL_KEY, VectorsWriter, iter_vectors

PART_ROWS = 4_096
VERSIONS_KEY = b"gandt.versions"
_OPEN_PARTS = 4
_WRITE_ROWS = 1_024


@dataclass
class _Unsaved:
    """Rows of the next part, and its name once its writing has begun."""

    rows: list[tuple[str, int, NDArray[np.float32]]] = field(default_factory=list)
    name: str = ""


class VectorParts:
    """Collects vectors in any order. One process at a time for each shard; leaving the `with` block saves what it has.

    Args:
        output: the vectors file to be, which ends in .parquet; any other name is a folder of parts, also `s3://...`.
        model_id: fingerprint of the vectors.
        dim: numbers in a vector.
        shard: which of how many.
        objects: the store of an `s3://` output.
    Raises:
        WrongState: another process makes the same, or the folder holds vectors of another model.
        GandtError: the folder cannot be written.
    """

    def __init__(
        self,
        output: str,
        model_id: str,
        dim: int,
        shard: tuple[int, int] = (0, 1),
        objects: ObjectStore | None = None,
    ) -> None:
        self._output, self._model_id, self._dim = output, model_id, dim
        self._is_file = not output.startswith(STORED) and Path(output).suffix.lower() == SUFFIX
        self.folder = f"{output}.parts" if self._is_file else output
        self._name = "part-{}of{}".format(*shard)
        self._index = PartIndex()
        self._files: list[str] = []
        self._unsaved = _Unsaved()
        self._flushed_at = time.monotonic()
        self._stamp = 0  # of the newest part
        self.foreign = 0
        self._place: PartPlace = (
            StorePlace(objects, output) if objects is not None else FolderPlace(Path(self.folder), self._name, output)
        )
        try:
            self._find_parts()
        except BaseException:
            self._place.close()
            raise

    def __len__(self) -> int:
        """Vectors that were there when the parts were opened."""
        return len(self._index)

    def has(self, image: str, version: int) -> bool:
        """Whether this version of the image had its vector when the parts were opened."""
        return self._index.place(key(image), version) is not None

    def add(self, image: str, version: int, vector: NDArray[np.float32]) -> None:
        """Adds f32[D]; saved with the next part."""
        self._unsaved.rows.append((image, version, vector))
        if len(self._unsaved.rows) >= PART_ROWS or time.monotonic() - self._flushed_at > self._place.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Writes what was added since the last part.

        A Ctrl-C may fall between the part's being there and its rows' being forgotten; saving again on the way out then
        puts the same part in the same place.
        """
        self._flushed_at = time.monotonic()
        unsaved = self._unsaved
        if unsaved.rows:
            unsaved.name = unsaved.name or self._new_name()
            if unsaved.name not in self._files[-1:]:
                self._write(unsaved.name, *map(list, zip(*unsaved.rows, strict=True)))
            self._unsaved = _Unsaved()

    def finish(self, images: Iterable[tuple[str, int]]) -> int:
        """Makes the output of these images and versions, which come in the order of a file.

        A file gets their vectors and the parts are removed. In a folder small parts are joined, and rows of which
        there is a newer version are taken out.

        Returns:
            How many of them have a vector.
        """
        self.flush()
        self._index.settle()
        if not self._is_file:
            self._tidy()
            return sum(self.has(image, version) for image, version in images)
        with VectorsWriter(self._output, self._dim, self._model_id) as writer:
            for ids, rows in self._blocks(images):
                writer.write(ids, np.stack(rows))
        shutil.rmtree(self.folder, ignore_errors=True)
        return writer.rows

    def _new_name(self) -> str:
        self._stamp = max(time.time_ns(), self._stamp + 1)  # the clock may be set back
        return f"{self._name}-{self._stamp:020d}{SUFFIX}"

    def _write(
        self, name: str, ids: Sequence[str], versions: Sequence[int], rows: Sequence[NDArray[np.floating]]
    ) -> None:
        column = np.array(versions, np.uint64)
        marks = {VERSIONS_KEY: base64.b64encode(column.astype("<u8").tobytes())}
        with (
            self._place.writing(name) as path,
            VectorsWriter(path, self._dim, self._model_id, marks=marks) as writer,
        ):
            writer.write(ids, np.stack(rows))
        self._enter(name, keys(ids), column)

    def _enter(self, name: str, images: NDArray[np.uint64], versions: NDArray[np.uint64]) -> None:
        self._index.add(len(self._files), images, versions)
        self._files.append(name)

    def _blocks(self, images: Iterable[tuple[str, int]]) -> Iterator[tuple[list[str], list[NDArray[np.floating]]]]:
        loaded: OrderedDict[int, VectorSet] = OrderedDict()
        ids: list[str] = []
        rows: list[NDArray[np.floating]] = []
        for image, version in images:
            place = self._index.place(key(image), version)
            if place is None:
                continue
            part, row = place
            if part not in loaded:
                loaded[part] = self._read(self._files[part])[0]
                if len(loaded) > _OPEN_PARTS:
                    loaded.popitem(last=False)
            loaded.move_to_end(part)
            if loaded[part].ids[row] != image:  # two names with one hash, or a part that somebody exchanged
                where = self._place.whole_name(self._files[part])
                raise CorruptData(
                    f"{where} holds another image in place of {image!r}",
                    kind="file",
                    id=where,
                    reason="BAD_PART",
                    fix=f"delete {where} and give the same command again",
                )
            ids.append(image)
            rows.append(loaded[part].matrix[row])
            if len(ids) == _WRITE_ROWS:
                yield ids, rows
                ids, rows = [], []
        if ids:
            yield ids, rows

    def _tidy(self) -> None:
        """Joins this shard's small parts, without the rows of which there is a newer version.

        A new part is there before the old ones go; what a kill leaves twice, the next run's tidying takes out.
        """
        sources: list[str] = []
        ids: list[str] = []
        versions: list[int] = []
        rows: list[NDArray[np.floating]] = []
        stale = False

        def join() -> None:
            nonlocal stale
            if ids and (stale or len(sources) > 1):
                self._write(self._new_name(), ids, versions, rows)
            if stale or len(sources) > 1:
                for name in sources:
                    self._place.remove(name)
            for each in (sources, ids, versions, rows):
                each.clear()
            stale = False

        for part, live in self._index.live():
            name = self._files[part]
            if not name.startswith(f"{self._name}-") or (live.all() and len(live) >= PART_ROWS // 2):
                continue
            (block, made), keep = self._read(name), np.flatnonzero(live).tolist()
            ids += [block.ids[row] for row in keep]
            versions += made[keep].tolist()
            rows += list(block.matrix[keep])
            sources.append(name)
            stale = stale or not live.all()
            if len(ids) >= PART_ROWS:
                join()
        join()
        self._index.settle()

    def _read(self, name: str) -> tuple[VectorSet, NDArray[np.uint64]]:
        """A part's rows, and the version that each was made from."""
        try:
            with self._reading(name) as path:
                blocks = list(iter_vectors(path, PART_ROWS))
                versions = _versions_in(open_parquet(path).schema_arrow)
        except NotFound as error:  # in a store, which has no locks
            raise WrongState(
                f"{self._output} is being made by another process, which has joined {self._place.whole_name(name)}",
                kind="file",
                id=self._output,
                reason="OUTPUT_IN_USE",
                fix="let one process make each shard, and give the same command again: nothing is lost",
            ) from error
        ids = [image for block in blocks for image in block.ids]
        matrix = np.concatenate([block.matrix for block in blocks]) if blocks else np.zeros((0, 0), np.float32)
        return VectorSet(ids, matrix, blocks[0].model_id if blocks else ""), versions

    @contextlib.contextmanager
    def _reading(self, name: str) -> Iterator[str]:
        """A local path of a part; whatever is wrong with its content is told with its own place."""
        try:
            with self._place.reading(name) as path:
                yield path
        except (InvalidInput, ValueError, KeyError, OSError) as error:  # pyarrow raises them all, without an errno
            if getattr(error, "errno", None) or getattr(error, "reason", "") == "EXTRA_MISSING":
                raise
            where = self._place.whole_name(name)
            raise CorruptData(
                f"{where} is broken, or no part that `gandt embed` wrote",
                kind="file",
                id=where,
                reason="BAD_PART",
                fix=f"move {where} away and give the same command again: its images are embedded anew",
            ) from error

    def _find_parts(self) -> None:
        for name in sorted(self._place.names(), key=_stamp):
            self._stamp = _stamp(name)
            try:
                with self._reading(name) as path:
                    table = open_parquet(path)
                    ids = table.read(columns=["image"]).column("image").to_pylist()
            except NotFound:  # another shard has joined it with others meanwhile
                continue
            versions = _versions_in(table.schema_arrow)
            model = (table.schema_arrow.metadata or {}).get(MODEL_KEY, b"").decode()
            if model == self._model_id and len(versions) == table.metadata.num_rows:
                self._enter(name, keys(ids), versions)
            elif self._is_file:
                self.foreign += 1
                self._place.remove(name)
            else:
                raise WrongState(
                    f"folder {self.folder} holds vectors of model {model!r}, not of {self._model_id!r}",
                    kind="model",
                    id=model,
                    state=model,
                    reason="MODEL_MISMATCH",
                    fix="name another folder with -o",
                )
        self._index.settle()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self.flush()
        finally:
            self._place.close()


def key(image: str) -> int:
    """64 bits that stand for a name; also what shards are dealt by."""
    return int.from_bytes(hashlib.blake2b(image.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def keys(images: Sequence[str]) -> NDArray[np.uint64]:
    """u64[N]: the key of each."""
    return np.fromiter(map(key, images), np.uint64, len(images))


def _stamp(name: str) -> int:
    """When a part was written, in its name."""
    stamp = name.removesuffix(SUFFIX).rpartition("-")[2]
    return int(stamp) if stamp.isdecimal() else 0


def _versions_in(schema: Any) -> NDArray[np.uint64]:
    return np.frombuffer(base64.b64decode((schema.metadata or {}).get(VERSIONS_KEY, b"")), "<u8").astype(np.uint64)
