# SPDX-License-Identifier: GPL-3.0-or-later
"""vectors.parquet: `image: string`, `vector: fixed_size_list<float32|float16>`, fingerprint in the schema metadata.

`.npz` files with arrays `images` and `vectors` are read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput, NotFound, WrongState
from gandt.domain.vectors import MAX_DIM, VectorSet
from gandt.tables.files import check_columns, file_format, open_parquet, replacing

MODEL_KEY = b"gandt.model_id"
READ_ROWS = 4_096


def read_vectors(path: str) -> VectorSet:
    """A whole vectors file in memory.

    Raises:
        NotFound: no such file.
        InvalidInput: not a vectors table, vectors of different sizes, or a repeated image.
    """
    blocks = list(iter_vectors(path))
    if not blocks:
        return VectorSet([], np.zeros((0, 0), np.float32))
    ids = [image for block in blocks for image in block.ids]
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(i for i in ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise InvalidInput(f"{path}: image {twice!r} has more than one vector", field="image", reason="REPEATED_IMAGE")
    return VectorSet(ids, np.concatenate([block.matrix for block in blocks]), blocks[0].model_id)


def iter_vectors(path: str, rows: int = READ_ROWS) -> Iterator[VectorSet]:
    """The vectors of a file (or of a folder of its parts, by name) in blocks of at most `rows` rows."""
    if Path(path).is_dir():
        parts = sorted(str(p) for p in Path(path).glob("*.parquet"))
        if not parts:
            raise NotFound(f"folder {path} holds no .parquet parts", kind="file", id=path, reason="FILE_NOT_FOUND")
        dim, model = None, None
        for part in parts:
            for block in iter_vectors(part, rows):
                if (dim, model) not in ((None, None), (block.dim, block.model_id)):
                    raise WrongState(
                        f"{part} holds vectors of another model than the parts before it",
                        kind="file",
                        id=part,
                        reason="MODEL_MISMATCH",
                        fix="embed all images with one model",
                    )
                dim, model = block.dim, block.model_id
                yield block
        return
    if Path(path).suffix.lower() == ".npz":
        yield from _npz(path).blocks(rows)
        return
    if file_format(path) != "parquet":
        raise InvalidInput(
            f"{path} is no vectors file", reason="UNKNOWN_FORMAT", fix="use .parquet or .npz, as gandt embed writes"
        )
    yield from _parquet(path, rows)


def _npz(path: str) -> VectorSet:
    try:
        with np.load(path, allow_pickle=False) as data:
            check_columns(list(data.files), path, ("images", "vectors"))
            ids, matrix = [str(i) for i in data["images"]], np.asarray(data["vectors"])
    except FileNotFoundError as e:
        raise NotFound(f"there is no file {path}", kind="file", id=path, reason="FILE_NOT_FOUND") from e
    except (OSError, ValueError) as e:
        raise InvalidInput(f"{path} is not a readable .npz file: {e}", reason="BAD_NPZ") from e
    if matrix.ndim != 2 or len(ids) != len(matrix) or not np.issubdtype(matrix.dtype, np.floating):
        raise InvalidInput(
            f"{path}: `vectors` must be a table of real numbers with one row an image", reason="BAD_VECTORS"
        )
    return VectorSet(ids, matrix if matrix.dtype == np.float16 else matrix.astype(np.float32))


def _parquet(path: str, rows: int) -> Iterator[VectorSet]:
    import pyarrow as pa

    table = open_parquet(path)
    schema = table.schema_arrow
    check_columns(schema.names, path, ("image", "vector"))
    kind = schema.field("vector").type
    if not (pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind)):
        raise InvalidInput(f"{path}: column 'vector' is {kind}, not a list of numbers", reason="BAD_VECTORS")
    model_id = (schema.metadata or {}).get(MODEL_KEY, b"").decode()
    dim = kind.list_size if pa.types.is_fixed_size_list(kind) else 0
    done = 0
    for batch in table.iter_batches(batch_size=rows, columns=["image", "vector"]):
        column = batch.column(batch.schema.get_field_index("vector"))
        images = batch.column(batch.schema.get_field_index("image"))
        if column.null_count or images.null_count:
            raise InvalidInput(f"{path}: a row near row {done + 1} has no image or no vector", reason="EMPTY_CELL")
        ids = images.cast(pa.string()).to_pylist()
        flat = np.asarray(column.flatten().to_numpy(zero_copy_only=False))
        dim = dim or (len(flat) // len(ids) if ids else 0)
        ragged = not pa.types.is_fixed_size_list(kind) and any(len(v) != dim for v in column)
        if ragged or (dim and flat.size != dim * len(ids)) or not 0 < dim <= MAX_DIM:
            raise InvalidInput(f"{path}: vectors near row {done + 1} are not all of size {dim}", reason="BAD_VECTORS")
        matrix = flat.reshape(len(ids), dim)
        if matrix.dtype != np.float16:
            matrix = matrix.astype(np.float32, copy=False)
        yield VectorSet(ids, matrix, model_id)
        done += len(ids)


class VectorsWriter:
    """Writes vectors.parquet block by block; the file appears when the `with` block ends well.

    Args:
        path: ends in .parquet.
        dim: numbers in a vector.
        model_id: fingerprint of their model.
        dtype: float32 or float16.
        marks: more metadata of the schema.
    """

    def __init__(
        self, path: str, dim: int, model_id: str, dtype: Any = np.float32, marks: Mapping[bytes, bytes] | None = None
    ) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if Path(path).suffix.lower() != ".parquet":
            raise InvalidInput(
                f"vectors cannot be written to {path}", reason="UNKNOWN_FORMAT", fix="name a file that ends in .parquet"
            )
        number = pa.float16() if np.dtype(dtype) == np.float16 else pa.float32()
        self._schema = pa.schema(
            [("image", pa.string()), ("vector", pa.list_(number, dim))],
            metadata={MODEL_KEY: model_id.encode(), **(marks or {})},
        )
        self._dim, self._dtype = dim, np.dtype(dtype)
        self._stack = ExitStack()
        scratch = self._stack.enter_context(replacing(path))
        try:
            self._writer = pq.ParquetWriter(scratch, self._schema)
        except BaseException as e:
            self._stack.__exit__(type(e), e, e.__traceback__)
            raise
        self.rows = 0

    def write(self, ids: Sequence[str], matrix: NDArray[np.floating]) -> None:
        """Adds N ids and their float[N, D] vectors."""
        import pyarrow as pa

        flat = pa.array(np.ascontiguousarray(matrix, dtype=self._dtype).reshape(-1))
        vectors = pa.FixedSizeListArray.from_arrays(flat, self._dim)
        self._writer.write_batch(pa.record_batch([pa.array(ids, pa.string()), vectors], schema=self._schema))
        self.rows += len(ids)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            self._writer.close()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, tb)


def write_vectors(path: str, vectors: VectorSet) -> None:
    """Writes a whole set at once."""
    with VectorsWriter(path, vectors.dim, vectors.model_id, vectors.matrix.dtype) as writer:
        for block in vectors.blocks(READ_ROWS):
            writer.write(block.ids, block.matrix)
