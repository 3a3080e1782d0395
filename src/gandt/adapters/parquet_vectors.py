# SPDX-License-Identifier: GPL-3.0-or-later
"""A VectorSource over vectors.parquet in the object store, one file or a folder of the parts that embedding wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput, NotFound, WrongState
from gandt.domain.filters import Filter
from gandt.domain.vectors import MAX_DIM, VectorSet
from gandt.ports.object_store import ObjectStore
from gandt.tables.vectors import MODEL_KEY

READ_NUMBERS = 2**18  # numbers read at once: 1 MiB of float32; Parquet needs about ten times that while it decodes
MAX_READ_ROWS = 4_096
STREAM_BYTES = 1 << 18  # of a column's bytes, instead of all of a row group


class ParquetVectors:
    """Reads one part at a time in small blocks; nothing but a block is in memory.

    Args:
        store: where the files are.
        uri: `s3://bucket/key.parquet`, or a folder of parts.
    """

    def __init__(self, store: ObjectStore, uri: str) -> None:
        self._store = store
        self._uri = uri
        self._parts: list[str] | None = None

    def model_id(self) -> str:
        """Fingerprint in the first part's schema; "" when it has none."""
        with self._open(self._files()[0]) as table:
            return _model_of(table)

    def scan(self, condition: Filter | None = None) -> Iterator[VectorSet]:
        """Every row of every part, parts by key.

        Raises:
            InvalidInput: a condition is given, or a part is no vectors table.
            NotFound: no such file.
            WrongState: two parts come from different models.
        """
        if condition is not None:
            raise InvalidInput(
                "files of vectors have no fields to filter by",
                field="pool.filter",
                reason="NO_FIELDS",
                fix="name a collection instead, or leave the filter out",
            )
        first: tuple[int, str] | None = None
        for part in self._files():
            for block in self._rows(part):
                kind = (block.dim, block.model_id)
                first = first or kind
                if kind != first:
                    raise WrongState(
                        f"{part} holds vectors of another model or size than the parts before it",
                        kind="file",
                        id=part,
                        reason="MODEL_MISMATCH",
                        fix="embed all images with one model",
                    )
                yield block

    def fetch(self, ids: Sequence[str]) -> VectorSet:
        """The images among `ids` that exist; reads all parts."""
        wanted = set(ids)
        found: list[str] = []
        rows: list[np.ndarray[Any, Any]] = []
        model = ""
        for block in self.scan():
            here = [row for row, image in enumerate(block.ids) if image in wanted]
            found += [block.ids[row] for row in here]
            rows.append(block.matrix[here])
            model = block.model_id
        return VectorSet(found, np.concatenate(rows) if rows else np.zeros((0, 0), np.float32), model)

    def _files(self) -> list[str]:
        if self._parts is None:
            if self._uri.endswith(".parquet"):
                self._parts = [self._uri]
            else:
                folder = self._uri.rstrip("/") + "/"
                self._parts = [info.uri for info in self._store.list(folder) if info.uri.endswith(".parquet")]
            if not self._parts:
                raise NotFound(
                    f"{self._uri} holds no .parquet files",
                    kind="object",
                    id=self._uri,
                    reason="NO_VECTORS",
                    fix="embed the images first",
                )
        return self._parts

    @contextmanager
    def _open(self, uri: str) -> Iterator[Any]:
        import pyarrow.parquet as pq

        with closing(self._store.open(uri)) as stream:
            try:
                table = pq.ParquetFile(stream, buffer_size=STREAM_BYTES, pre_buffer=False)
            except (OSError, ValueError) as error:
                raise InvalidInput(
                    f"{uri} is not a Parquet file: {error}", field="vectors_uri", reason="BAD_PARQUET"
                ) from error
            names = table.schema_arrow.names
            if missing := {"image", "vector"} - set(names):
                raise InvalidInput(
                    f"{uri} has no column {sorted(missing)[0]!r}, its columns are {', '.join(names)}",
                    field="vectors_uri",
                    reason="MISSING_COLUMN",
                )
            yield table

    def _rows(self, uri: str) -> Iterator[VectorSet]:
        with self._open(uri) as table:
            model, size = _model_of(table), getattr(table.schema_arrow.field("vector").type, "list_size", 0)
            rows = min(max(1, READ_NUMBERS // max(size, 1)), MAX_READ_ROWS)
            for batch in table.iter_batches(batch_size=rows, columns=["image", "vector"], use_threads=False):
                if not len(batch):
                    continue
                ids: list[str] = batch.column("image").to_pylist()
                matrix = _matrix_of(batch.column("vector"))
                if matrix is None or None in ids:
                    raise InvalidInput(
                        f"{uri} holds rows without an image or a vector of one size",
                        field="vectors_uri",
                        reason="BAD_VECTORS",
                    )
                yield VectorSet(ids, matrix, model)


def _matrix_of(column: Any) -> NDArray[np.floating] | None:
    """f32[N, D] or f16[N, D] of a list column without copying; None when it is no such matrix.

    Neither `to_numpy` nor `flatten` of a fixed size: they would import pandas (where it is installed) and Arrow's
    functions, 50 MB and a second.
    """
    if column.null_count:
        return None
    dim = getattr(column.type, "list_size", 0)
    if dim:
        flat = column.values.slice(column.offset * dim, len(column) * dim)
    else:
        flat, lengths = column.flatten(), np.from_dlpack(column.value_lengths())
        dim = int(lengths[0])
        if (lengths != dim).any():
            return None
    if flat.null_count or not 1 <= dim <= MAX_DIM:
        return None
    numbers: NDArray[Any] = np.from_dlpack(flat).reshape(-1, dim)
    if not np.issubdtype(numbers.dtype, np.floating):
        return None
    return numbers if numbers.dtype == np.float16 else numbers.astype(np.float32, copy=False)


def _model_of(table: Any) -> str:
    metadata: dict[bytes, bytes] = table.schema_arrow.metadata or {}
    return metadata.get(MODEL_KEY, b"").decode()
