# SPDX-License-Identifier: GPL-3.0-or-later
"""The port that selection reads vectors through: a collection of vector search, or files that bulk embedding wrote.

Held by `tests/contract/test_vector_source.py`: a scan gives every image once, in blocks of one size and one model, and
a fetch gives what exists and stays silent about the rest.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from gandt.domain.filters import Filter
from gandt.domain.vectors import VectorSet


class VectorSource(Protocol):
    """Vectors of one model."""

    def model_id(self) -> str:
        """Fingerprint of the model that made the vectors; "" when unknown.

        Raises:
            NotFound: there is no such collection, or no such file.
            BackendUnavailable: the store does not answer.
        """
        ...

    def scan(self, condition: Filter | None = None) -> Iterator[VectorSet]:
        """All images that meet the condition, block by block.

        Raises:
            NotFound, BackendUnavailable: as `model_id`.
            InvalidInput: this source knows no fields and a condition is given, or its files are no vectors.
        """
        ...

    def fetch(self, ids: Sequence[str]) -> VectorSet:
        """The images among `ids` that exist, in any order.

        Raises:
            NotFound, BackendUnavailable: as `model_id`.
        """
        ...
