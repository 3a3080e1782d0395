# SPDX-License-Identifier: GPL-3.0-or-later
"""A VectorSource over a collection of the vector search service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gandt.client.vectorsearch import VectorSearchClient
from gandt.domain.filters import Filter
from gandt.domain.vectors import VectorSet


class RemoteVectors:
    """One collection.

    Args:
        client: client of the vector search service.
        collection: its name.
    """

    def __init__(self, client: VectorSearchClient, collection: str) -> None:
        self._client = client
        self._collection = collection

    def model_id(self) -> str:
        """Fingerprint of the collection's model."""
        return self._client.get_collection(self._collection).model_id

    def scan(self, condition: Filter | None = None) -> Iterator[VectorSet]:
        """All images that meet the condition, by id."""
        return self._client.scan(self._collection, condition)

    def fetch(self, ids: Sequence[str]) -> VectorSet:
        """The images among `ids` that are in the collection."""
        return self._client.fetch(self._collection, list(ids)).items.vectors
