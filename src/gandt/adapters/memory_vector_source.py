# SPDX-License-Identifier: GPL-3.0-or-later
"""A VectorSource over vectors in memory, for tests and for embedding selection into other programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gandt.domain.errors import InvalidInput
from gandt.domain.filters import Filter, Ids
from gandt.domain.vectors import VectorSet


class MemoryVectorSource:
    """Serves one VectorSet.

    Args:
        vectors: images with distinct ids.
        block_rows: rows a block.
    """

    def __init__(self, vectors: VectorSet, block_rows: int = 1_024) -> None:
        self._vectors = vectors
        self._block_rows = block_rows

    def model_id(self) -> str:
        """Fingerprint of the vectors' model."""
        return self._vectors.model_id

    def scan(self, condition: Filter | None = None) -> Iterator[VectorSet]:
        """All images; of conditions it knows lists of ids alone."""
        if condition is None:
            yield from self._vectors.blocks(self._block_rows)
        elif isinstance(condition, Ids):
            yield self.fetch(condition.ids)
        else:
            raise InvalidInput("these vectors have no fields to filter by", field="filter", reason="NO_FIELDS")

    def fetch(self, ids: Sequence[str]) -> VectorSet:
        """The images among `ids` that exist, in the order of the vectors."""
        wanted = set(ids)
        rows = [row for row, image in enumerate(self._vectors.ids) if image in wanted]
        return VectorSet([self._vectors.ids[row] for row in rows], self._vectors.matrix[rows], self._vectors.model_id)
