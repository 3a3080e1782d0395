# SPDX-License-Identifier: GPL-3.0-or-later
"""Embeddings as one matrix with ids, and the checks that every vector passes."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.errors import InvalidInput

MAX_DIM = 32_768  # the limit of a Milvus cluster, applied everywhere
MAX_ID_BYTES = 512
PIECE = 1 << 18  # numbers in float64 at once: 2 MiB, what a core's cache holds


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Some images' vectors, all of one model.

    Attributes:
        ids: N image ids; the row order of `matrix`.
        matrix: f32[N, D] or f16[N, D], C-contiguous, finite.
        model_id: fingerprint of the model that made them; "" when unknown.
    """

    ids: Sequence[str]
    matrix: NDArray[np.floating]
    model_id: str = ""

    @property
    def dim(self) -> int:
        """Numbers in a vector (0 for an empty set of unknown size)."""
        return int(self.matrix.shape[1]) if self.matrix.ndim == 2 else 0

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self, rows: int) -> Iterator[VectorSet]:
        """The same set in pieces of at most `rows` rows, in order, without copying."""
        for start in range(0, len(self.ids), rows):
            yield VectorSet(self.ids[start : start + rows], self.matrix[start : start + rows], self.model_id)


def check_id(image_id: str, field: str = "image_id") -> None:
    """Raise InvalidInput unless the id is 1-512 bytes of UTF-8 without control characters."""
    size = len(image_id.encode("utf-8", "surrogatepass"))
    if not 1 <= size <= MAX_ID_BYTES:
        raise InvalidInput(
            f"{field} {image_id[:40]!r} is {size} bytes long, allowed are 1 to {MAX_ID_BYTES}",
            field=field,
            reason="BAD_IMAGE_ID",
        )
    if image_id.isascii() and image_id.isprintable():
        return  # as nearly all are
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in image_id):
        raise InvalidInput(f"{field} {image_id[:40]!r} holds a control character", field=field, reason="BAD_IMAGE_ID")


def check_ids(image_ids: Sequence[str], field: str = "ids") -> None:
    """Raise InvalidInput at the first id that no item can have (see `check_id`); names it."""
    together = "".join(image_ids)
    lengths = [*map(len, image_ids)]
    usual = together.isascii() and together.isprintable() and 0 not in lengths
    if usual and max(lengths, default=0) <= MAX_ID_BYTES:
        return
    for image_id in image_ids:
        check_id(image_id, field)


def normalized(matrix: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows scaled to unit length as f32[N, D]; a zero row stays zero."""
    out = np.array(matrix, dtype=np.float32)  # [N, D]
    norms = np.linalg.norm(out, axis=1, keepdims=True)  # [N, 1]
    np.divide(out, norms, out=out, where=norms > 0)
    return out


def squared_lengths(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """f64[N]: sums of squares of the rows, in float64 and in pieces, so that a large matrix is not copied."""
    out = np.empty(len(matrix))
    step = max(1, PIECE // max(1, matrix.shape[1]))
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, len(matrix), step):
            wide = matrix[start : start + step].astype(np.float64)
            np.vecdot(wide, wide, out=out[start : start + step])
    return out


def bad_rows(matrix: NDArray[np.floating]) -> NDArray[np.bool_]:
    """bool[N]: rows with a NaN or infinite number, or with length zero; they cannot be compared."""
    sums = squared_lengths(matrix)
    bad: NDArray[np.bool_] = ~np.isfinite(sums) | (sums == 0)
    return bad
