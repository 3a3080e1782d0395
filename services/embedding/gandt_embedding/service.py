# SPDX-License-Identifier: GPL-3.0-or-later
"""The use cases of the embedding service: describe the model, embed a few images, embed a stream of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from gandt.domain import paging
from gandt.domain.embedding import (
    EmbedResult,
    ImageInput,
    ModelInfo,
    StreamItems,
    StreamOpen,
    StreamOpened,
    StreamResults,
)
from gandt.domain.errors import GandtError, InvalidInput, NotFound, WrongState
from gandt.domain.vectors import check_id
from gandt.ports.clock import NO_DEADLINE, Deadline
from gandt_embedding.call import EmbedCall
from gandt_embedding.pipeline import Pipeline
from gandt_embedding.stream import Stream

MAX_PAGE = 100
DEFAULT_PAGE = 50


class EmbeddingService:
    """One model behind one pipeline.

    Args:
        load: builds the pipeline with its model; slow, so it is called by `warm_up`.
        window_images: images of one stream that may be under way.
    """

    def __init__(self, load: Callable[[], Pipeline], window_images: int = 64) -> None:
        self._load = load
        self._window_images = window_images
        self._pipeline: Pipeline | None = None
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Loads the model; raises what loading raises."""
        with self._lock:
            if self._pipeline is None:
                self._pipeline = self._load()

    def close(self) -> None:
        """Ends the pipeline's threads."""
        if self._pipeline is not None:
            self._pipeline.close()

    def get_model(self, model_id: str = "") -> ModelInfo:
        """The model of that fingerprint; "" for the default one.

        Raises:
            NotFound: another model is loaded.
        """
        info = self._running().model.info
        if model_id not in ("", info.model_id):
            raise NotFound(
                f"model {model_id} is not loaded, {info.model_id} is",
                kind="model",
                id=model_id,
                reason="MODEL_NOT_FOUND",
                fix="start a server with that model and its weights",
            )
        return info

    def list_models(self, page_size: int = 0, page_token: str = "") -> tuple[list[ModelInfo], str]:
        """The loaded models by name, and the next page's token.

        Raises:
            InvalidInput: a page size above 100, or a page token, for one page holds all.
        """
        paging.page_size(page_size, DEFAULT_PAGE, MAX_PAGE)
        if page_token:
            raise paging.bad_token()
        return [self._running().model.info], ""

    def embed(
        self, images: Sequence[ImageInput], model_id: str = "", deadline: Deadline = NO_DEADLINE
    ) -> list[EmbedResult]:
        """A result for each image, in their order. A bad image fails alone.

        Raises:
            InvalidInput: no image, or too many.
            WrongState: MODEL_MISMATCH, another model is loaded than the caller expects.
            Overloaded: the queue is full, or too long for the deadline.
            DeadlineExceeded: time ran out before the last one was ready.
        """
        done = threading.Event()
        call = self.begin(images, model_id, deadline, done.set)
        done.wait(deadline.remaining())
        return call.results()

    def begin(
        self, images: Sequence[ImageInput], model_id: str, deadline: Deadline, done: Callable[[], object]
    ) -> EmbedCall:
        """Starts `embed` and returns at once; raises what can be known at once.

        Args:
            done: called once, from another thread or this one, when the results are there.
        """
        info = self.expect(model_id)
        if not 1 <= len(images) <= info.max_batch_images:
            raise InvalidInput(
                f"the call has {len(images)} images, allowed are 1 to {info.max_batch_images}",
                field="images",
                reason="BAD_BATCH",
                fix="send them in several calls, or use EmbedStream",
            )
        deadline.check()
        call = EmbedCall(len(images), deadline, done)
        refused = {n: error for n, image in enumerate(images) if (error := _bad_id(image))}
        good = [(n, image) for n, image in enumerate(images) if n not in refused]
        if good:
            self._running().submit(good, deadline, call)
        call.deliver([_refused(images[n], n, error) for n, error in refused.items()])
        return call

    def embed_stream(
        self,
        requests: Iterator[StreamOpen | StreamItems],
        deadline: Deadline = NO_DEADLINE,
        reading: Deadline = NO_DEADLINE,
    ) -> Iterator[StreamOpened | StreamResults]:
        """Opens with the model, then yields results as they become ready.

        At most `window_images` are read ahead of what the caller has taken, so a slow reader stops the reading.

        Args:
            reading: when its check raises, no more images are read; those that were read still get their results.
        Raises:
            InvalidInput: the first message does not open the stream, a later one does, or sequences have a gap.
            WrongState: MODEL_MISMATCH.
            BackendUnavailable: the server shuts down; a new stream may go on from the last `contiguous_ack`.
        """
        opening = next(iter(requests), None)
        if not isinstance(opening, StreamOpen):
            raise InvalidInput("a stream must begin with `open`", field="open", reason="STREAM_NOT_OPENED")
        info = self.expect(opening.model_id)
        yield StreamOpened(info, self._window_images, opening.dtype)

        def submit(image: ImageInput, sequence: int) -> None:
            error = _bad_id(image)
            if error is None:
                self._running().submit_when_free(image, sequence, deadline, stream)
            else:
                stream.deliver([_refused(image, sequence, error)])

        stream = Stream(requests, submit, self._window_images, info.dim * 4, reading)
        try:
            for results, ack in stream.results(deadline):
                yield StreamResults(results, ack)
        finally:
            stream.stop()

    def expect(self, model_id: str) -> ModelInfo:
        """The loaded model, if the caller expects it or any.

        Raises:
            WrongState: MODEL_MISMATCH.
        """
        info = self._running().model.info
        if model_id not in ("", info.model_id):
            raise WrongState(
                f"the server has model {info.model_id}, the caller expects {model_id}",
                kind="model",
                id=model_id,
                state=info.model_id,
                reason="MODEL_MISMATCH",
                fix="use the collection of the server's model, or a server with the expected one",
            )
        return info

    def _running(self) -> Pipeline:
        if self._pipeline is None:
            raise WrongState("the model is not loaded yet", kind="model", state="loading", reason="MODEL_LOADING")
        return self._pipeline


def _refused(image: ImageInput, sequence: int, error: GandtError) -> EmbedResult:
    return EmbedResult(image.image_id or str(sequence), sequence, error=error)


def _bad_id(image: ImageInput) -> GandtError | None:
    try:
        if image.image_id:
            check_id(image.image_id)
    except InvalidInput as error:
        return error
    return None
