# SPDX-License-Identifier: GPL-3.0-or-later
"""Client of the embedding service: images or texts in, vectors or errors out."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gandt.client.connection import Channel
from gandt.domain.embedding import (
    MAX_BATCH_IMAGES,
    EmbedResult,
    ImageInput,
    ModelInfo,
    StreamItems,
    StreamOpen,
    StreamOpened,
    check_text,
)
from gandt.domain.errors import GandtError
from gandt.wire import embedding as wire

_CALL_BYTES = 32 * 2**20  # the contract's limit for unary calls
_MESSAGE_BYTES = 2**20  # and for messages of a stream
_MESSAGE_IMAGES = 16  # above it a message gains nothing
_FIRST_WINDOW = 16  # until the server has said its own
Dtype = np.dtype[np.floating]


class EmbeddingClient:
    """Talks to one embedding service. Thread-safe.

    Args:
        channel: an open connection; the caller closes it.
    """

    def __init__(self, channel: Channel) -> None:
        self._stub = wire.Stub(channel)

    def get_model(self, model_id: str = "") -> ModelInfo:
        """The model of that fingerprint, or the server's default one.

        Raises:
            NotFound: that model is not loaded.
        """
        return wire.model_info(self._stub.GetModel(wire.get_model_request(model_id)).model)

    def list_models(self) -> list[ModelInfo]:
        """All models of the server, by name."""
        models: list[ModelInfo] = []
        token = ""
        while True:
            page = self._stub.ListModels(wire.list_models_request(token))
            models += map(wire.model_info, page.models)
            token = page.next_page_token
            if not token:
                return models

    def embed(
        self, images: Sequence[ImageInput], model_id: str = "", dtype: Dtype | None = None, timeout: float | None = None
    ) -> list[EmbedResult]:
        """A result for each image, in their order; in as many calls as the contract's limits ask for.

        Args:
            model_id: the fingerprint that the vectors must have; "" accepts any.
            dtype: float16 halves what travels; None is float32. Results are float32 either way.
            timeout: seconds for each call.
        Raises:
            WrongState: MODEL_MISMATCH.
            Overloaded: the server's queue is full.
        """
        results: list[EmbedResult] = []
        for start, group in _groups(images, MAX_BATCH_IMAGES, _CALL_BYTES):
            answer = self._stub.Embed(wire.embed_request_message(group, model_id, dtype), timeout=timeout)
            for given, image in zip(wire.embed_results(answer), group, strict=True):
                position = start + given.sequence
                name = image.image_id or str(position)
                results.append(EmbedResult(name, position, given.vector, given.error, given.cached))
        return results

    def embed_texts(
        self, texts: Sequence[str], model_id: str = "", timeout: float | None = None
    ) -> NDArray[np.float32]:
        """The vectors of some phrases, f32[N, D], to be searched among those of images.

        Args:
            texts: at least one, in the language that the model was trained on; it reads some dozens of words of each.
            model_id, timeout: as in `embed`.
        Raises:
            InvalidInput: TEXT_UNSUPPORTED, the model has no text tower; BAD_TEXT, empty or too long.
            WrongState, Overloaded: as in `embed`.
        """
        rows = []
        for result in self.embed([ImageInput(text=check_text(text)) for text in texts], model_id, None, timeout):
            if result.vector is None:
                raise result.error or GandtError("the embedding service gave neither a vector nor an error")
            rows.append(result.vector)
        return np.stack(rows)  # [N, D]

    def embed_stream(
        self, images: Iterable[ImageInput], model_id: str = "", dtype: Dtype | None = None
    ) -> Iterator[EmbedResult]:
        """A result for each image in the order of completion; `sequence` is its place in `images`, from 0.

        The images are taken from another thread, only as far ahead as the server allows. What iterating over them
        raises is raised here. Close the iterator to stop early.

        Raises:
            WrongState: MODEL_MISMATCH.
        """
        sender = _Sender(images, StreamOpen(model_id, dtype))
        responses: Any = self._stub.EmbedStream(sender.requests())
        try:
            for answer in wire.stream_answers(responses):
                if isinstance(answer, StreamOpened):
                    sender.allow(answer.window_images - _FIRST_WINDOW)
                    continue
                # Allowed before they are used: the server works while the caller does.
                sender.allow(len(answer.results))
                yield from answer.results
        finally:
            sender.stop()
            responses.close()
            sender.raise_failure()


class _Sender:
    """The requests of one stream. gRPC iterates over it in a thread of its own."""

    def __init__(self, images: Iterable[ImageInput], opening: StreamOpen) -> None:
        self._images = images
        self._opening = opening
        self._free = threading.Semaphore(_FIRST_WINDOW)
        self._stopped = False
        self._failure: Exception | None = None

    def allow(self, count: int) -> None:
        """More images may be sent."""
        if count > 0:
            self._free.release(count)

    def stop(self) -> None:
        """Ends the iteration."""
        self._stopped = True
        self._free.release()

    def raise_failure(self) -> None:
        """Raises what iterating over the images raised."""
        if self._failure is not None:
            raise self._failure

    def requests(self) -> Iterator[Any]:
        """The messages to send."""
        try:
            yield wire.open_message(self._opening)
            for items in self._items():
                yield wire.items_message(items)
        except Exception as error:  # noqa: BLE001 (gRPC would only log it; it is raised where results are read)
            self._failure = error

    def _items(self) -> Iterator[StreamItems]:
        group: list[ImageInput] = []
        size = sequence = 0
        for image in self._images:
            allowed = self._free.acquire(blocking=False)
            full = len(group) == _MESSAGE_IMAGES or size + _wire_bytes(image) > _MESSAGE_BYTES
            # A started message must leave before we wait, or both sides would wait for each other.
            if group and (full or not allowed):
                yield StreamItems(sequence, group)
                sequence, group, size = sequence + len(group), [], 0
            if not allowed:
                self._free.acquire()
            if self._stopped:
                return
            group.append(image)
            size += _wire_bytes(image)
        if group:
            yield StreamItems(sequence, group)


def _wire_bytes(image: ImageInput) -> int:
    return image.size_bytes + len(image.image_id.encode()) + len(image.uri.encode()) + 64


def _groups(images: Sequence[ImageInput], count: int, max_bytes: int) -> Iterator[tuple[int, list[ImageInput]]]:
    """(position of the first, images) in groups within both limits; an image alone may be larger."""
    start, group, size = 0, list[ImageInput](), 0
    for image in images:
        if group and (len(group) == count or size + _wire_bytes(image) > max_bytes):
            yield start, group
            start, group, size = start + len(group), [], 0
        group.append(image)
        size += _wire_bytes(image)
    if group:
        yield start, group
