# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored answers: tables (by suffix) and Ground Truth output folders in the object store."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gandt.domain.aggregation.records import ModelChunk
from gandt.domain.datasets import Answer
from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt.domain.labeling.job_output import read_job
from gandt.ports.object_store import ObjectInfo, ObjectStore
from gandt.tables.answers import read_answers
from gandt.tables.files import SUFFIXES
from gandt.tables.labels import read_known
from gandt.tables.probabilities import read_probabilities

Check = Callable[[], None]


def _no_check() -> None:
    return None


class _Checked:
    """A store that asks before each object whether anybody still waits."""

    def __init__(self, store: ObjectStore, check: Check) -> None:
        self._store = store
        self._check = check

    def get(self, uri: str) -> bytes:
        self._check()
        return self._store.get(uri)

    def list(self, prefix_uri: str) -> Iterator[ObjectInfo]:
        self._check()
        return self._store.list(prefix_uri)


class StoredAnswers:
    """The AnswersSource port over an object store.

    Args:
        store: where the URIs are.
    """

    def __init__(self, store: ObjectStore, max_bytes: int = 4 << 30) -> None:
        self._store = store
        self._max_bytes = max_bytes

    def answers(self, uri: str, multi_label: bool, raw: bool, check: Check = _no_check) -> Iterator[Answer]:
        """See `AnswersSource.answers`; a URI without a table's suffix is a Ground Truth job's output."""
        if PurePosixPath(uri).suffix.lower() not in SUFFIXES:
            self._check_size(uri, sum(info.size for info in self._store.list(uri.rstrip("/") + "/")))
            found = read_job(_Checked(self._store, check), uri)
            if not found.files:
                raise NotFound(f"there are no answers under {uri}", kind="object", id=uri)
            yield from found.answers
            return
        with self._file(uri) as path:
            yield from read_answers(str(path), multi_label, raw)

    def gold(self, uri: str) -> tuple[Mapping[str, tuple[str, ...]], Collection[str]]:
        """See `AnswersSource.gold`."""
        with self._file(uri) as path:
            return read_known(str(path))

    def model(self, uri: str) -> Iterator[ModelChunk]:
        """See `AnswersSource.model`."""
        with self._file(uri) as path:
            yield from read_probabilities(str(path))

    def _check_size(self, uri: str, size: int) -> None:
        if size > self._max_bytes:
            raise InvalidInput(
                f"{uri} holds {size:,} bytes, more than the {self._max_bytes:,} that are read in one call",
                field="uri",
                reason="TOO_MUCH_DATA",
                fix="split it, or raise the aggregation service's max_stored_bytes",
            )

    @contextmanager
    def _file(self, uri: str) -> Iterator[Path]:
        """The object as a file; what a reader says of the file names the object instead."""
        info = self._store.head(uri)
        self._check_size(uri, info.size if info else 0)
        with tempfile.TemporaryDirectory(prefix="gandt-aggregation-") as folder:
            path = Path(folder) / PurePosixPath(uri).name
            path.write_bytes(self._store.get(uri))
            try:
                yield path
            except GandtError as error:
                error.message = error.message.replace(str(path), uri)
                raise
