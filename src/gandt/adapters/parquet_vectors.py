# SPDX-License-Identifier: GPL-3.0-or-later
"""A VectorSource over vectors.parquet in the object store, one file or a folder of the parts that embedding wrote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gandt.domain.errors import InvalidInput, NotFound, WrongState
from gandt.domain.filters import Filter
from gandt.domain.vectors import MAX_DIM, VectorSet
from gandt.ports.object_store import ObjectStore
from gandt.tables.vectors import MODEL_KEY

READ_ROWS = 4_096


class ParquetVectors:
    """Reads one part at a time; nothing but that part is in memory.

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
        return _model_of(self._open(self._files()[0]))

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

    def _open(self, uri: str) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.ParquetFile(pa.BufferReader(self._store.get(uri)))
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{uri} is not a Parquet file: {error}", field="vectors_uri", reason="BAD_PARQUET"
            ) from error
        missing = {"image", "vector"} - set(table.schema_arrow.names)
        if missing:
            raise InvalidInput(
                f"{uri} has no column {sorted(missing)[0]!r}, its columns are {', '.join(table.schema_arrow.names)}",
                field="vectors_uri",
                reason="MISSING_COLUMN",
            )
        return table

    def _rows(self, uri: str) -> Iterator[VectorSet]:
        table = self._open(uri)
        model = _model_of(table)
        for batch in table.iter_batches(batch_size=READ_ROWS, columns=["image", "vector"]):
            ids: list[str] = batch.column("image").to_pylist()
            flat = np.asarray(batch.column("vector").flatten().to_numpy(zero_copy_only=False))
            if not ids:
                continue
            dim, rest = divmod(flat.size, len(ids))
            if rest or not 1 <= dim <= MAX_DIM or not np.issubdtype(flat.dtype, np.floating) or None in ids:
                raise InvalidInput(
                    f"{uri} holds rows without an image or a vector of one size",
                    field="vectors_uri",
                    reason="BAD_VECTORS",
                )
            matrix = flat.reshape(len(ids), dim)
            yield VectorSet(ids, matrix if matrix.dtype == np.float16 else matrix.astype(np.float32), model)


def _model_of(table: Any) -> str:
    metadata: dict[bytes, bytes] = table.schema_arrow.metadata or {}
    return metadata.get(MODEL_KEY, b"").decode()
