# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for answers and gold labels that lie somewhere under a URI."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Protocol

from gandt.domain.aggregation.records import ModelChunk
from gandt.domain.datasets import Answer


class AnswersSource(Protocol):
    """Reads answers by URI."""

    def answers(self, uri: str, multi_label: bool, raw: bool, check: Callable[[], None]) -> Iterator[Answer]:
        """The answers of a table, or of a Ground Truth job's output folder, in order.

        Args:
            multi_label: an answered empty label means "none of these"; otherwise it is blank.
            raw: keep every answer as it was given, for compat.
            check: called before each object is read; raises when nobody waits any more.
        Raises:
            NotFound: nothing is there.
            InvalidInput: it cannot be read; names the object and the row.
        """
        ...

    def gold(self, uri: str) -> tuple[Mapping[str, tuple[str, ...]], Collection[str]]:
        """Known labels by image, and the images that were drawn at random.

        Raises:
            NotFound, InvalidInput: as above.
        """
        ...

    def model(self, uri: str) -> Iterator[ModelChunk]:
        """An image model's probabilities, a chunk of the table at a time.

        Raises:
            NotFound, InvalidInput: as above.
        """
        ...
