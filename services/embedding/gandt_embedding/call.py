# SPDX-License-Identifier: GPL-3.0-or-later
"""One unary call under way: gathers its results and says once when they are complete."""

from __future__ import annotations

import threading
from collections.abc import Callable

from gandt.domain.embedding import EmbedResult
from gandt.domain.errors import DeadlineExceeded
from gandt.ports.clock import Deadline


class EmbedCall:
    """The Sink of a call's images.

    Args:
        images: how many results will come.
        deadline: the call's.
        done: called once when the last one is there, in the thread that brings it; must not wait.
    """

    def __init__(self, images: int, deadline: Deadline, done: Callable[[], object]) -> None:
        self._missing = images
        self._deadline = deadline
        self._done = done
        self._results: list[EmbedResult] = []
        self._lock = threading.Lock()

    def deliver(self, results: list[EmbedResult]) -> None:
        """See `Sink`."""
        if not results:
            return
        with self._lock:
            self._results += results
            self._missing -= len(results)
            complete = self._missing == 0
        if complete:
            self._done()

    def results(self) -> list[EmbedResult]:
        """A result for each image, in their order.

        Raises:
            DeadlineExceeded: some are missing, or came too late.
        """
        if self._missing:
            raise DeadlineExceeded(
                "the images were not ready in time", fix="give the call more time, or send fewer images"
            )
        self._deadline.check()  # its passing also shows as errors of single images, which nobody would read
        return sorted(self._results, key=lambda result: result.sequence)
