# SPDX-License-Identifier: GPL-3.0-or-later
"""Messages of gandt.embedding.v1, to and from the domain's records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from gandt.api.embedding.v1 import embedding_pb2 as pb
from gandt.api.embedding.v1.embedding_pb2_grpc import EmbeddingServiceServicer as Servicer
from gandt.api.embedding.v1.embedding_pb2_grpc import EmbeddingServiceStub as Stub
from gandt.api.embedding.v1.embedding_pb2_grpc import add_EmbeddingServiceServicer_to_server as add_servicer
from gandt.domain.embedding import (
    EmbedResult,
    ImageInput,
    ModelInfo,
    StreamItems,
    StreamOpen,
    StreamOpened,
    StreamResults,
)
from gandt.domain.errors import GandtError, InvalidInput
from gandt.wire.types import dtype_message, dtype_of, item_error, item_error_message

__all__ = ["SERVICE", "Servicer", "Stub", "add_servicer"]

SERVICE = pb.DESCRIPTOR.services_by_name["EmbeddingService"].full_name
Dtype = np.dtype[np.floating]
_FLOAT32: Dtype = np.dtype(np.float32)


def image_input(message: pb.Image) -> ImageInput:
    """One image to embed. Pixels whose length does not fit stay a flat array: they fail as an item."""
    if message.WhichOneof("source") != "pixels":
        return ImageInput(message.image_id, message.data, message.uri, text=message.text)
    height, width = message.pixels.height_px, message.pixels.width_px
    pixels: NDArray[np.uint8] = np.frombuffer(message.pixels.data, np.uint8)
    return ImageInput(
        message.image_id,
        pixels=pixels.reshape(height, width, 3) if pixels.size == height * width * 3 and pixels.size else pixels,
    )


def image_message(image: ImageInput) -> pb.Image:
    """One image to embed, as a message."""
    if image.pixels is not None:
        height, width = image.pixels.shape[:2]
        data = np.ascontiguousarray(image.pixels).tobytes()
        return pb.Image(image_id=image.image_id, pixels=pb.Pixels(data=data, height_px=height, width_px=width))
    if image.uri:
        return pb.Image(image_id=image.image_id, uri=image.uri)
    if image.text:
        return pb.Image(image_id=image.image_id, text=image.text)
    return pb.Image(image_id=image.image_id, data=image.data)


def model_info(message: pb.Model) -> ModelInfo:
    """A model's description."""
    return ModelInfo(
        model_id=message.model_id,
        name=message.name,
        dim=message.dim,
        normalized=message.normalized,
        weights_sha256=message.weights_sha256,
        weights_source=message.weights_source,
        preprocessing=message.preprocessing,
        device=message.device,
        engine=message.engine,
        max_image_bytes=message.max_image_bytes,
        max_pixels=message.max_pixels,
        max_batch_images=message.max_batch_images,
        embeds_texts=message.embeds_texts,
    )


def model_message(info: ModelInfo) -> pb.Model:
    """A model's description, as a message."""
    return pb.Model(
        model_id=info.model_id,
        name=info.name,
        dim=info.dim,
        normalized=info.normalized,
        weights_sha256=info.weights_sha256,
        weights_source=info.weights_source,
        preprocessing=info.preprocessing,
        device=info.device,
        engine=info.engine,
        max_image_bytes=info.max_image_bytes,
        max_pixels=info.max_pixels,
        max_batch_images=info.max_batch_images,
        embeds_texts=info.embeds_texts,
    )


def get_model_request(model_id: str) -> pb.GetModelRequest:
    """Asks for one model."""
    return pb.GetModelRequest(model_id=model_id)


def get_model_response(info: ModelInfo) -> pb.GetModelResponse:
    """Answers with one model."""
    return pb.GetModelResponse(model=model_message(info))


def list_models_request(page_token: str) -> pb.ListModelsRequest:
    """Asks for a page of models."""
    return pb.ListModelsRequest(page_token=page_token)


def list_models_response(models: Iterable[ModelInfo], next_page_token: str) -> pb.ListModelsResponse:
    """Answers with a page of models."""
    return pb.ListModelsResponse(models=map(model_message, models), next_page_token=next_page_token)


def result(message: pb.EmbedResult, dtype: Dtype, dim: int) -> EmbedResult:
    """What became of one image; vectors come out as float32 whatever they travel in.

    Raises:
        GandtError: the server sent a vector of another length than it said.
    """
    if message.WhichOneof("outcome") != "vector":
        return EmbedResult(message.image_id, message.sequence, error=item_error(message.error))
    vector = np.frombuffer(message.vector, dtype.newbyteorder("<")).astype(np.float32)
    if len(vector) != dim:
        raise GandtError(f"the embedding service sent a vector of {len(vector)} numbers instead of {dim}")
    vector.flags.writeable = False
    return EmbedResult(message.image_id, message.sequence, vector=vector, cached=message.cached)


def result_message(outcome: EmbedResult, dtype: Dtype | None) -> pb.EmbedResult:
    """What became of one image, as a message."""
    message = pb.EmbedResult(image_id=outcome.image_id, sequence=outcome.sequence, cached=outcome.cached)
    if outcome.vector is not None:
        message.vector = outcome.vector.astype((dtype or _FLOAT32).newbyteorder("<")).tobytes()
    elif outcome.error is not None:
        message.error.CopyFrom(item_error_message(outcome.error))
    return message


def embed_request(message: pb.EmbedRequest) -> tuple[list[ImageInput], str, Dtype]:
    """Images, expected fingerprint and the number format of the answer.

    Raises:
        InvalidInput: an unknown number format.
    """
    return [image_input(image) for image in message.images], message.model_id, dtype_of(message.dtype)


def embed_request_message(images: Sequence[ImageInput], model_id: str, dtype: Dtype | None) -> pb.EmbedRequest:
    """Asks for some images' vectors."""
    return pb.EmbedRequest(images=map(image_message, images), model_id=model_id, dtype=dtype_message(dtype))


def embed_response(results: Iterable[EmbedResult], info: ModelInfo, dtype: Dtype) -> pb.EmbedResponse:
    """Answers with a result for each image."""
    return pb.EmbedResponse(
        results=[result_message(outcome, dtype) for outcome in results],
        model_id=info.model_id,
        dim=info.dim,
        dtype=dtype_message(dtype),
    )


def embed_results(message: pb.EmbedResponse) -> list[EmbedResult]:
    """The results of a call, in its order."""
    dtype = dtype_of(message.dtype)
    return [result(outcome, dtype, message.dim) for outcome in message.results]


def stream_request(message: pb.EmbedStreamRequest) -> StreamOpen | StreamItems:
    """One message of the client.

    Raises:
        InvalidInput: it holds nothing, or an unknown number format.
    """
    kind = message.WhichOneof("message")
    if kind == "open":
        return StreamOpen(message.open.model_id, dtype_of(message.open.dtype))
    if kind == "items":
        return StreamItems(message.items.first_sequence, [image_input(image) for image in message.items.images])
    raise InvalidInput("a stream message holds neither `open` nor `items`", field="message", reason="EMPTY_MESSAGE")


def open_message(opening: StreamOpen) -> pb.EmbedStreamRequest:
    """Opens a stream."""
    return pb.EmbedStreamRequest(
        open=pb.EmbedStreamRequest.Open(model_id=opening.model_id, dtype=dtype_message(opening.dtype))
    )


def items_message(items: StreamItems) -> pb.EmbedStreamRequest:
    """Adds images to a stream."""
    images = map(image_message, items.images)
    return pb.EmbedStreamRequest(items=pb.EmbedStreamRequest.Items(first_sequence=items.first_sequence, images=images))


def stream_responses(answers: Iterator[StreamOpened | StreamResults]) -> Iterator[pb.EmbedStreamResponse]:
    """The server's messages; vectors travel in the number format that the stream was opened with."""
    dtype: Dtype | None = None
    for answer in answers:
        if isinstance(answer, StreamOpened):
            dtype = answer.dtype
            opened = pb.EmbedStreamResponse.Opened(
                model_id=answer.info.model_id,
                dim=answer.info.dim,
                dtype=dtype_message(dtype or _FLOAT32),
                window_images=answer.window_images,
            )
            yield pb.EmbedStreamResponse(opened=opened)
        else:
            results = pb.EmbedStreamResponse.Results(
                results=[result_message(outcome, dtype) for outcome in answer.results],
                contiguous_ack=answer.contiguous_ack,
            )
            yield pb.EmbedStreamResponse(results=results)


def stream_answers(messages: Iterable[pb.EmbedStreamResponse]) -> Iterator[StreamOpened | StreamResults]:
    """The server's messages as records; of the model only fingerprint and size are known."""
    dtype, dim = _FLOAT32, 0
    for message in messages:
        if message.WhichOneof("message") == "opened":
            dtype, dim = dtype_of(message.opened.dtype), message.opened.dim
            info = ModelInfo(message.opened.model_id, "", dim)
            yield StreamOpened(info, message.opened.window_images, dtype)
        else:
            results = [result(outcome, dtype, dim) for outcome in message.results.results]
            yield StreamResults(results, message.results.contiguous_ack)
