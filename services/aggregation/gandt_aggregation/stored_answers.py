# SPDX-License-Identifier: GPL-3.0-or-later
"""Stored answers: tables (by suffix) and Ground Truth output folders in the object store."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gandt.domain.datasets import Answer
from gandt.domain.errors import GandtError, NotFound
from gandt.domain.labeling.job_output import read_job
from gandt.ports.object_store import ObjectStore
from gandt.tables.answers import read_answers
from gandt.tables.files import SUFFIXES
from gandt.tables.labels import read_gold


class StoredAnswers:
    """The AnswersSource port over an object store.

    Args:
        store: where the URIs are.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def answers(self, uri: str, multi_label: bool, raw: bool) -> Iterator[Answer]:
        """See `AnswersSource.answers`; a URI without a table's suffix is a Ground Truth job's output."""
        if PurePosixPath(uri).suffix.lower() not in SUFFIXES:
            found = read_job(self._store, uri)
            if not found.files:
                raise NotFound(f"there are no answers under {uri}", kind="object", id=uri)
            yield from found.answers
            return
        with self._file(uri) as path:
            yield from read_answers(str(path), multi_label, raw)

    def gold(self, uri: str) -> Mapping[str, tuple[str, ...]]:
        """See `AnswersSource.gold`."""
        with self._file(uri) as path:
            return read_gold(str(path))

    @contextmanager
    def _file(self, uri: str) -> Iterator[Path]:
        """The object as a file; what a reader says of the file names the object instead."""
        with tempfile.TemporaryDirectory(prefix="gandt-aggregation-") as folder:
            path = Path(folder) / PurePosixPath(uri).name
            path.write_bytes(self._store.get(uri))
            try:
                yield path
            except GandtError as error:
                error.message = error.message.replace(str(path), uri)
                raise
