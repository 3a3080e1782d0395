# SPDX-License-Identifier: GPL-3.0-or-later
"""What a resident store needs from a durable one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gandt.adapters.resident_snapshot import Snapshots
from gandt.domain.errors import WrongState
from gandt.domain.search_records import ItemSet

HALF_DELETED = "COLLECTION_HALF_DELETED"


@dataclass(frozen=True, slots=True)
class StoredCollection:
    """A collection as its journal knows it: `items` is counted there, `generation` is the last one it noted."""

    name: str
    dim: int
    model_id: str
    items: int
    generation: int
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Glimpse:
    """What can be told of a journal before it is open: names of collections, and where aliases lead."""

    names: frozenset[str]
    aliases: Mapping[str, str] = field(default_factory=dict)


def half_deleted(name: str, cause: str = "") -> WrongState:
    """The error for a collection whose removal did not end: nobody may use it, because part of it may be gone."""
    return WrongState(
        f"collection {name} is half deleted" + (f": {cause}" if cause else ""),
        kind="collection",
        id=name,
        state="half deleted",
        reason="COLLECTION_HALF_DELETED",
        fix="delete it again, or restart the service, which deletes the rest",
    )


class Journal(Protocol):
    """A durable store of collections. Called by one thread a collection."""

    def hold(self) -> Glimpse | None:
        """Takes the store for this process; None when only opening it tells what it holds.

        Raises:
            WrongState: another process has it (IN_USE).
            PermissionDenied: it cannot be written.
        """
        ...

    def snapshots(self) -> Snapshots | None:
        """Where snapshots of what it holds may be kept; None for a journal that is read fast enough."""
        ...

    def open(self) -> list[StoredCollection]:
        """Gets ready and says what it holds. It is held."""
        ...

    def close(self) -> None:
        """Makes everything durable. It is held still."""
        ...

    def release(self) -> None:
        """Lets go."""
        ...

    def create(self, name: str, dim: int, model_id: str) -> None:
        """Adds an empty collection."""
        ...

    def point_alias(self, alias: str, name: str) -> None:
        """Makes a new or known alias lead to a collection, durably and in one moment."""
        ...

    def drop(self, name: str) -> None:
        """Removes a collection and its aliases.

        Raises:
            WrongState: it had begun and did not end (COLLECTION_HALF_DELETED); any other error leaves it as it was.
        """
        ...

    def load(self, name: str) -> Iterator[tuple[ItemSet, int]]:
        """All items in any order, in blocks, each with the largest generation in it."""
        ...

    def newer(self, name: str, generation: int) -> tuple[ItemSet, int] | None:
        """Items of later generations, with the largest; None when they are too many for one answer."""
        ...

    def write(self, name: str, items: ItemSet, generation: int) -> None:
        """Inserts or replaces items, all of them or (by raising) perhaps some."""
        ...

    def delete(self, name: str, ids: Sequence[str], generation: int) -> None:
        """Deletes items that exist, and notes the generation."""
        ...
