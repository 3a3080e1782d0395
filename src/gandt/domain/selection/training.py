# SPDX-License-Identifier: GPL-3.0-or-later
"""Labeled images as training data: vectors, labels and how sure each label is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import InvalidInput
from gandt.domain.selection.pool import Matrix


@dataclass(frozen=True)
class TrainingSet:
    """Labeled images that have a vector, by id.

    Attributes:
        ids: L ids, ascending, each once.
        vectors: f64[L, D] unit vectors.
        labels: of each image.
        probabilities: f64[L] in [0, 1], how sure the labels are.
        names: every label that occurs, ascending.
        arms: how each image was picked, "" when unknown.
    """

    ids: tuple[str, ...]
    vectors: Matrix
    labels: tuple[tuple[str, ...], ...]
    probabilities: NDArray[np.float64]
    names: tuple[str, ...]
    arms: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def having(self, wanted: Collection[str]) -> NDArray[np.bool_]:
        """bool[L]: images that carry at least one of the labels."""
        return np.array([not set(wanted).isdisjoint(labels) for labels in self.labels], bool)

    def soft(self, wanted: Collection[str]) -> NDArray[np.float64]:
        """f64[L]: chance that an image carries one of the labels, from the aggregation's posterior.

        An image labeled otherwise with probability p has the remaining 1 - p spread evenly over the other labels, so a
        doubtful "Other" is a weak negative and not a certain one.
        """
        others = max(len(self.names) - 1, 1)
        share = min(len(set(wanted) & set(self.names)) / others, 1.0)
        return np.where(self.having(wanted), self.probabilities, (1.0 - self.probabilities) * share)


def merged(labeled: Iterable[LabeledImage]) -> dict[str, LabeledImage]:
    """One entry an image, by ascending id: labels joined; of two probabilities the larger one counts."""
    out: dict[str, LabeledImage] = {}
    for image in labeled:
        known = out.get(image.image_id)
        if known is None:
            out[image.image_id] = image
            continue
        labels = (*known.labels, *(label for label in image.labels if label not in known.labels))
        out[image.image_id] = LabeledImage(
            image.image_id, labels, max(known.probability, image.probability), known.arm, known.round
        )
    return dict(sorted(out.items()))


def training_set(labeled: Mapping[str, LabeledImage], ids: Collection[str], vectors: Matrix) -> TrainingSet:
    """Joins labels with vectors.

    Args:
        labeled: by id, as `merged` returns them.
        ids: images that have a vector, in the order of `vectors`; those without a label are ignored.
        vectors: f64[len(ids), D] unit vectors.
    Raises:
        InvalidInput: a labeled image has several vectors.
    """
    row: dict[str, int] = {}
    for number, image in enumerate(ids):
        if image in labeled and row.setdefault(image, number) != number:
            raise InvalidInput(
                f"labeled image {image!r} has more than one vector", field="vectors", reason="REPEATED_IMAGE"
            )
    known = [image for image in labeled if image in row]
    return TrainingSet(
        ids=tuple(known),
        vectors=vectors[[row[image] for image in known]] if known else np.zeros((0, vectors.shape[1])),
        labels=tuple(labeled[image].labels for image in known),
        probabilities=np.array([labeled[image].probability for image in known]),
        names=tuple(sorted({label for image in known for label in labeled[image].labels})),
        arms=tuple(labeled[image].arm for image in known),
    )
