# SPDX-License-Identifier: GPL-3.0-or-later
"""Many images at once inside the caller's process: threads read and decode, the caller's thread owns the device.

    images -> reading and decoding threads -> batches in order -> model -> results

Nothing crosses gRPC, and what is under way is bounded whatever the number of images. Threads and not processes: the
decoder lets other threads run while it works, and pixels need not be copied from one process to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from gandt.domain.embedding import ModelInfo
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Overloaded
from gandt.domain.vectors import bad_rows
from gandt.ports.embedding_model import EmbeddingModel

BATCHES_AHEAD = 3  # enough for one slow photo among quick ones
_PASSING = (BackendUnavailable, DeadlineExceeded, Overloaded)  # trouble of a store, not of the image

Outcome = NDArray[np.float32] | GandtError
"""An image's vector, f32[D], or what is wrong with it."""


@dataclass(frozen=True, slots=True)
class BulkImage:
    """One image.

    Attributes:
        image: its name in the results.
        read: gives its encoded bytes; called in another thread. May raise a GandtError.
    """

    image: str
    read: Callable[[], bytes]


class BulkEmbedder:
    """A loaded model and the threads that feed it. One caller at a time.

    Args:
        threads: images that are read and decoded at once.
        max_batch: most images in one run of the device.
    """

    def __init__(self, model: EmbeddingModel, threads: int, max_batch: int) -> None:
        self._model, self._threads, self._max_batch = model, threads, max_batch

    @property
    def info(self) -> ModelInfo:
        """The model."""
        return self._model.info

    def embed(self, images: Iterable[BulkImage]) -> Iterator[tuple[str, Outcome]]:
        """The outcome of each image, in the order given; a bad image fails alone.

        Raises:
            BackendUnavailable, DeadlineExceeded, Overloaded: where the images lie does not answer. Images without an
                outcome can be given again.
        """
        coming = iter(images)
        pool = ThreadPoolExecutor(self._threads, "bulk-decode")
        under_way: deque[tuple[str, Future[NDArray[np.uint8] | GandtError]]] = deque()
        try:
            while True:
                room = self._threads + BATCHES_AHEAD * self._max_batch - len(under_way)
                for item in islice(coming, room):
                    under_way.append((item.image, pool.submit(self._prepare, item)))
                if not under_way:
                    return
                batch = [under_way.popleft() for _ in range(min(self._max_batch, len(under_way)))]
                yield from self._run([(image, future.result()) for image, future in batch])
        finally:
            pool.shutdown(cancel_futures=True)

    def _prepare(self, item: BulkImage) -> NDArray[np.uint8] | GandtError:
        try:
            data, limit = item.read(), self._model.info.max_image_bytes
            if limit and len(data) > limit:
                raise InvalidInput(
                    f"the file has {len(data):,} bytes, at most {limit:,} are taken", reason="IMAGE_TOO_LARGE"
                )
            return self._model.prepare(data)
        except _PASSING:
            raise
        except GandtError as error:
            return error

    def _run(self, batch: list[tuple[str, NDArray[np.uint8] | GandtError]]) -> Iterator[tuple[str, Outcome]]:
        good = [prepared for _, prepared in batch if not isinstance(prepared, GandtError)]
        vectors = self._model.embed(good) if good else np.zeros((0, 0), np.float32)  # [N, D]
        rows = iter(zip(vectors, bad_rows(vectors) if good else (), strict=True))
        for image, prepared in batch:
            if isinstance(prepared, GandtError):
                yield image, prepared
                continue
            vector, bad = next(rows)
            yield image, _unusable() if bad else vector


def _unusable() -> GandtError:
    return InvalidInput("the model gives no usable vector for it", reason="VECTOR_UNUSABLE")
