# SPDX-License-Identifier: GPL-3.0-or-later
"""A collection as vectors.parquet: the usual columns `image` and `vector`, and one column a field.

A column has the kind of its field (text, int64, double, bool), null where an item has none. A field of several kinds
is a text column of JSON, marked in the column's metadata. The schema's metadata has the model's fingerprint, and the
names that lead to the collection. What one wrote, the other reads bit for bit.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from gandt.domain.errors import Conflict, InvalidInput
from gandt.domain.fields import Kind, kind_of
from gandt.domain.search_records import Collection, Fields, ItemSet
from gandt.domain.vectors import VectorSet
from gandt.tables.files import open_parquet, replacing
from gandt.tables.vectors import MODEL_KEY, iter_vectors

NAMES_KEY = b"gandt.collection"  # JSON: the collection's name and its aliases
KIND_KEY, FIELD_KEY = b"gandt.kind", b"gandt.field"  # of a column: JSON values; the field where the name is taken
TAKEN = ("image", "vector")
GROUP_BYTES = 16 << 20  # of vectors in a row group
BLOCK_BYTES = 4 << 20  # of vectors read at once
MAX_ROWS = 8192
Kinds = Mapping[str, set[Kind]]


@dataclass(frozen=True, slots=True)
class ItemsFile:
    """What a file says of itself; "" and () where it says nothing, 0 rows where they are not counted."""

    dim: int
    model_id: str
    rows: int
    collection: str = ""
    aliases: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)  # column -> field


def kinds_of(blocks: Iterator[ItemSet]) -> dict[str, set[Kind]]:
    """The kinds of each field among some items."""
    kinds: dict[str, set[Kind]] = {}
    for block in blocks:
        for row in block.fields:
            for name, value in row.items():
                kinds.setdefault(name, set()).add(kind_of(value))
    return kinds


class ItemsWriter:
    """Writes items block by block; the file appears when the `with` block ends well.

    Args:
        path: ends in .parquet.
        collection: what they come from.
        kinds: the kinds of each field, as `kinds_of` found them.
    """

    def __init__(self, path: str, collection: Collection, kinds: Kinds) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if Path(path).suffix != ".parquet":
            raise InvalidInput(
                f"vectors cannot be written to {path}", reason="UNKNOWN_FORMAT", fix="name a file that ends in .parquet"
            )
        self._dim, self._kinds = collection.dim, {name: kinds[name] for name in sorted(kinds)}
        types = {Kind.TEXT: pa.string(), Kind.INT: pa.int64(), Kind.REAL: pa.float64(), Kind.BOOL: pa.bool_()}
        columns = [pa.field("image", pa.string()), pa.field("vector", pa.list_(pa.float32(), collection.dim))]
        for name, found in self._kinds.items():
            marks = {FIELD_KEY: name.encode()} if name in TAKEN else {}
            if len(found) > 1:
                marks[KIND_KEY] = b"json"
            kind = pa.string() if len(found) > 1 else types[next(iter(found))]
            columns.append(pa.field(f"field_{name}" if name in TAKEN else name, kind, metadata=marks or None))
        names = {"name": collection.name, "aliases": list(collection.aliases)}
        self._schema = pa.schema(
            columns, metadata={MODEL_KEY: collection.model_id.encode(), NAMES_KEY: json.dumps(names).encode()}
        )
        self._waiting: list[ItemSet] = []
        self._stack = ExitStack()
        scratch = self._stack.enter_context(replacing(path))
        try:
            self._writer = pq.ParquetWriter(scratch, self._schema)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        self.rows = 0

    def write(self, items: ItemSet) -> None:
        """Add items.

        Raises:
            Conflict: a field that was not there, or not of this kind, when the kinds were asked for.
        """
        self._waiting.append(items)
        rows = sum(len(block) for block in self._waiting)
        if rows >= MAX_ROWS or rows * 4 * self._dim >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        blocks, self._waiting = self._waiting, []
        if not blocks:
            return
        ids = [image_id for block in blocks for image_id in block.ids]
        fields = [row for block in blocks for row in (block.fields or [{}] * len(block))]
        for row in fields:
            self._check_known(row)
        flat = np.concatenate([np.ascontiguousarray(block.vectors.matrix, np.float32).reshape(-1) for block in blocks])
        arrays = [pa.array(ids, pa.string()), pa.FixedSizeListArray.from_arrays(pa.array(flat), self._dim)]
        for name, kinds in self._kinds.items():
            values = [row.get(name) for row in fields]
            if len(kinds) > 1:
                arrays.append(pa.array([None if v is None else json.dumps(v) for v in values], pa.string()))
            else:
                arrays.append(pa.array(values, self._schema.field(len(arrays)).type))
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self.rows += len(ids)

    def _check_known(self, row: Fields) -> None:
        for name, value in row.items():
            kinds = self._kinds.get(name, set())
            if kind_of(value) not in kinds and len(kinds) < 2:
                raise Conflict(
                    f"field {name!r} was written to while the collection was being exported",
                    kind="field",
                    id=name,
                    fix="run it again",
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if error is None:
                self._flush()
        except BaseException as failure:
            self._writer.close()
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._writer.close()
        self._stack.__exit__(kind, error, tb)


def describe_items(path: str) -> ItemsFile:
    """What a vectors file says of itself. Raises NotFound, InvalidInput."""
    if Path(path).suffix.lower() != ".parquet" or Path(path).is_dir():
        first = next(iter_vectors(path, 1), VectorSet([], np.zeros((0, 0), np.float32)))
        return ItemsFile(first.dim, first.model_id, 0)
    table = open_parquet(path)
    schema = table.schema_arrow
    marks = schema.metadata or {}
    names = json.loads(marks.get(NAMES_KEY, b"{}"))
    first = next(iter_vectors(path, 1), VectorSet([], np.zeros((0, 0), np.float32)))
    kind = schema.field("vector").type
    return ItemsFile(
        first.dim or getattr(kind, "list_size", 0),
        marks.get(MODEL_KEY, b"").decode(),
        table.metadata.num_rows,
        str(names.get("name", "")),
        tuple(names.get("aliases", ())),
        {c.name: (c.metadata or {}).get(FIELD_KEY, c.name.encode()).decode() for c in schema if c.name not in TAKEN},
    )


def iter_items(path: str, described: ItemsFile, block_bytes: int = BLOCK_BYTES) -> Iterator[ItemSet]:
    """The items of a file in blocks of so many bytes of vectors; a vectors file without further columns has no fields.

    Raises:
        InvalidInput: not a vectors table, or a column that is no field.
    """
    rows = max(1, min(MAX_ROWS, block_bytes // (4 * max(1, described.dim))))
    if not described.fields:
        for block in iter_vectors(path, rows):
            yield ItemSet(block)
        return
    columns = _columns(path, described, rows)
    for vectors in iter_vectors(path, rows):
        yield ItemSet(vectors, next(columns))


def _columns(path: str, described: ItemsFile, rows: int) -> Iterator[Sequence[Fields]]:
    """The fields of each block of as many rows as `iter_vectors` reads."""
    table = open_parquet(path)
    schema = table.schema_arrow
    as_json = {column: (schema.field(column).metadata or {}).get(KIND_KEY) == b"json" for column in described.fields}
    for batch in table.iter_batches(batch_size=rows, columns=list(described.fields)):
        found: list[dict[str, Any]] = [{} for _ in range(batch.num_rows)]
        for column, name in described.fields.items():
            for row, value in zip(found, batch.column(column).to_pylist(), strict=True):
                if value is None:
                    continue
                row[name] = json.loads(value) if as_json[column] else value
                if not isinstance(row[name], str | int | float | bool):
                    raise InvalidInput(
                        f"{path}: column {column!r} holds {type(value).__name__}, not text, numbers or truth values",
                        field=column,
                        reason="BAD_FIELD",
                        fix="leave the column out",
                    )
        yield found
