# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything a request needs: labels and exclusions from its chunks, vectors from where the spec says."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gandt.domain.datasets import LabeledImage
from gandt.domain.errors import InvalidInput, WrongState
from gandt.domain.progress import Progress
from gandt.domain.selection.filtering import LabeledVectors
from gandt.domain.selection.pool import Rows, RowsSubset
from gandt.domain.selection.records import InputChunk, PoolSource
from gandt.domain.selection.steps import Steps
from gandt.domain.vectors import MAX_DIM, VectorSet
from gandt.ports.vector_source import VectorSource


class ClosableRows(Rows, Protocol):
    """Rows that hold memory or a file until they are closed."""

    def close(self) -> None:
        """Frees what they hold."""
        ...


@dataclass(frozen=True)
class Sources:
    """How to find vectors.

    Attributes:
        collection: a collection of vector search by name.
        stored: vectors.parquet or a folder of parts by s3:// URI.
        new_rows: an empty place for one request's vectors.
    """

    collection: Callable[[str], VectorSource]
    stored: Callable[[str], VectorSource]
    new_rows: Callable[[], ClosableRows]


@dataclass
class Intake:
    """What one request brought.

    Attributes:
        rows: vectors of pool and labeled images, as they came.
        ids: image of each row.
        labeled: images with known labels, as they were sent.
        excluded: images that do not count as pool.
        groups: image id to near-duplicate group.
        beside: labeled images' vectors that the pool's condition had kept out.
    """

    rows: ClosableRows
    ids: list[str] = field(default_factory=list)
    labeled: list[LabeledImage] = field(default_factory=list)
    excluded: set[str] = field(default_factory=set)
    groups: dict[str, str] = field(default_factory=dict)
    beside: VectorSet = field(default_factory=lambda: VectorSet([], np.zeros((0, 0), np.float32)))

    def pool(self) -> tuple[list[str], RowsSubset]:
        """Ids and vectors of the unlabeled images that are not excluded, in the order in which they came."""
        outside = self.excluded | {image.image_id for image in self.labeled}
        keep = np.fromiter((image not in outside for image in self.ids), bool, len(self.ids))
        return [image for image, kept in zip(self.ids, keep, strict=True) if kept], RowsSubset(self.rows, keep)

    def labeled_vectors(self) -> LabeledVectors:
        """The labeled images that have a vector, and the ids of those that have none."""
        wanted = {image.image_id for image in self.labeled}
        here = [row for row, image in enumerate(self.ids) if image in wanted]
        ids = [*(self.ids[row] for row in here), *self.beside.ids]
        parts: list[NDArray[np.floating]] = [self.rows.take(np.array(here, np.int64))] if here else []
        if len(self.beside):
            parts.append(self.beside.matrix)
        matrix = np.concatenate(parts) if parts else np.zeros((0, self.rows.dim), np.float32)
        return LabeledVectors(self.labeled, ids, matrix, sorted(wanted - set(ids)))

    def add(self, vectors: VectorSet) -> None:
        """Keeps some vectors.

        Raises:
            InvalidInput: another size than the vectors before.
        """
        if not len(vectors):
            return
        if not 1 <= vectors.dim <= MAX_DIM or (self.ids and vectors.dim != self.rows.dim):
            raise InvalidInput(
                f"vectors of {vectors.dim} numbers follow vectors of {self.rows.dim}",
                field="vectors",
                reason="WRONG_DIM",
            )
        self.rows.append(vectors.matrix)
        self.ids.extend(vectors.ids)


def take_in(pool: PoolSource, chunks: Iterator[InputChunk], sources: Sources, intake: Intake) -> Steps[Intake]:
    """Reads the chunks, then the vectors unless they came with the chunks.

    Raises:
        InvalidInput: vectors of different sizes.
        NotFound: no such collection or file.
        WrongState: the source's model is not the one the spec names.
    """
    for chunk in chunks:
        intake.labeled.extend(chunk.labeled)
        intake.excluded.update(chunk.excluded)
        intake.groups.update(chunk.groups)
        if chunk.vectors is not None:
            intake.add(chunk.vectors)
        yield Progress("receiving", len(intake.ids), 0)
    if pool.inline_dim:
        return intake
    source = sources.collection(pool.collection) if pool.collection else sources.stored(pool.vectors_uri)
    _check_model(pool, source)
    for block in source.scan(pool.condition):
        intake.add(block)
        yield Progress("reading", len(intake.ids), 0)
    if pool.condition is not None:
        intake.beside = source.fetch(_missing(intake.labeled, intake.ids))
    return intake


def _missing(labeled: Collection[LabeledImage], ids: Collection[str]) -> list[str]:
    known = set(ids)
    return sorted({image.image_id for image in labeled} - known)


def _check_model(pool: PoolSource, source: VectorSource) -> None:
    if not pool.model_id:
        return
    model = source.model_id()
    if model != pool.model_id:
        name = pool.collection or pool.vectors_uri
        raise WrongState(
            f"the vectors of {name} come from model {model or 'unknown'}, asked for was {pool.model_id}",
            kind="collection",
            id=name,
            state=model,
            reason="MODEL_MISMATCH",
            fix="embed the images with one model, or name the other collection",
        )
