# SPDX-License-Identifier: GPL-3.0-or-later
"""Two versions of a labeled dataset: what is new, gone and changed, and a version's fingerprint."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from gandt.domain.datasets import join_labels

Labels = Mapping[str, tuple[str, ...]]


class ChangeKind(StrEnum):
    """What happened to an image."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Change:
    """An image that differs.

    Attributes:
        old, new: its labels in each version; () where it is not in it, and where it has none.
    """

    image: str
    kind: ChangeKind
    old: tuple[str, ...]
    new: tuple[str, ...]


def differences(old: Labels, new: Labels) -> list[Change]:
    """All images that differ, by image; the order of an image's labels says nothing."""
    changes = []
    for image in sorted(old.keys() | new.keys()):
        before, after = tuple(sorted(old.get(image, ()))), tuple(sorted(new.get(image, ())))
        if image not in old:
            changes.append(Change(image, ChangeKind.ADDED, (), after))
        elif image not in new:
            changes.append(Change(image, ChangeKind.REMOVED, before, ()))
        elif before != after:
            changes.append(Change(image, ChangeKind.CHANGED, before, after))
    return changes


def class_counts(labels: Labels) -> Counter[str]:
    """Images by label."""
    return Counter(label for given in labels.values() for label in given)


def dataset_hash(labels: Labels) -> str:
    """SHA-256 in hex of the images and their labels; the same for the same dataset in any order and format."""
    digest = hashlib.sha256()
    for image in sorted(labels):
        for part in (image, join_labels(tuple(sorted(labels[image])))):
            data = part.encode()
            digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()
