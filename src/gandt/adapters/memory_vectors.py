# SPDX-License-Identifier: GPL-3.0-or-later
"""The VectorStore that keeps nothing: for tests, and for file verbs that need a store for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gandt.adapters.resident_journal import StoredCollection
from gandt.adapters.resident_vectors import DEFAULT_RESIDENT_BYTES, ResidentVectors
from gandt.domain.search_records import ItemSet


class NoJournal:
    """A journal that remembers nothing."""

    def hold(self) -> None:
        """Nothing to take."""

    def snapshots(self) -> None:
        """Nothing to keep."""

    def open(self) -> list[StoredCollection]:
        """Nothing is there."""
        return []

    def close(self) -> None:
        """Nothing to do."""

    def release(self) -> None:
        """Nothing to let go."""

    def create(self, name: str, dim: int, model_id: str) -> None:
        """Nothing to do."""

    def point_alias(self, alias: str, name: str) -> None:
        """Nothing to do."""

    def drop(self, name: str) -> None:
        """Nothing to do."""

    def load(self, name: str) -> Iterator[tuple[ItemSet, int]]:  # noqa: ARG002 (the Journal protocol names it)
        """No items."""
        return iter(())

    def newer(self, name: str, generation: int) -> None:
        """Nothing to compare with."""

    def write(self, name: str, items: ItemSet, generation: int) -> None:
        """Nothing to do."""

    def delete(self, name: str, ids: Sequence[str], generation: int) -> None:
        """Nothing to do."""


class MemoryVectors(ResidentVectors):
    """Collections that end with the process.

    Args:
        max_resident_bytes: most bytes of vectors to hold.
    """

    def __init__(self, max_resident_bytes: int = DEFAULT_RESIDENT_BYTES) -> None:
        super().__init__(NoJournal(), max_resident_bytes)
