# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for the image catalog: images by content, their files, vectors' flags, and labels known beforehand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from gandt.domain.catalog import CatalogFile, CatalogImage, KnownLabel, LabelKind
from gandt.domain.images import ImageRef


class CatalogStore(Protocol):
    """What the controller remembers of images."""

    def fact(self, name: str) -> str:
        """A single remembered value; "" when there is none."""
        ...

    def set_fact(self, name: str, value: str) -> None:
        """Remember a single value."""
        ...

    def known_files(self, uris: Sequence[str]) -> dict[str, CatalogFile]:
        """Files that were read before, by URI."""
        ...

    def record_files(self, new_images: Sequence[CatalogImage], read: Sequence[CatalogFile]) -> int:
        """Store images and files in one transaction; returns the images that were new."""
        ...

    def add_folder(self, uri: str) -> None:
        """Remember an imported folder; relative paths are looked up below it first."""
        ...

    def list_folders(self) -> list[str]:
        """The folders that were imported."""
        ...

    def known_images(self, image_ids: Sequence[str]) -> set[str]:
        """Which of these ids are in the catalog."""
        ...

    def resolve_images(self, names: Sequence[str]) -> list[tuple[str, ...]]:
        """Image ids that each name may mean: by id, by URI, below an imported folder, by the end of the path.

        The first of these rules that finds anything decides; more than one id means that the name is ambiguous.
        """
        ...

    def count_images(self) -> int:
        """Images in the catalog."""
        ...

    def list_images(self, after_id: str, limit: int) -> list[CatalogImage]:
        """Images by id, after an id."""
        ...

    def get_images(self, image_ids: Sequence[str]) -> dict[str, CatalogImage]:
        """Images by id; unknown ids are left out."""
        ...

    def count_unembedded(self, collection: str) -> int:
        """Images of the catalog without a vector in a collection."""
        ...

    def unembedded(self, collection: str, after_id: str, limit: int) -> list[ImageRef]:
        """Images without a vector in a collection, by id, each with one of its places."""
        ...

    def mark_embedded(self, collection: str, image_ids: Sequence[str]) -> None:
        """Record that the vectors of these images are stored in a collection."""
        ...

    def unmark_embedded(self, collection: str) -> None:
        """Forget which vectors a collection has (it was deleted elsewhere)."""
        ...

    def near_groups(self, collection: str, generation: int) -> dict[str, str] | None:
        """Near-duplicate group by image, as found at that generation; None when it was not looked up then."""
        ...

    def set_near_groups(self, collection: str, generation: int, groups: Mapping[str, str]) -> None:
        """Replace a collection's near-duplicate groups; images on their own are not listed."""
        ...

    def known_labels(self, kind: LabelKind) -> list[KnownLabel]:
        """All labels of a kind, by image."""
        ...

    def put_known_labels(self, kind: LabelKind, labels: Iterable[KnownLabel]) -> int:
        """Store labels of a kind, one set an image; returns how many were new or changed."""
        ...
