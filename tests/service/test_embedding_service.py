# SPDX-License-Identifier: GPL-3.0-or-later
"""The embedding service over real gRPC: results, per-item errors, streams, limits, fingerprints."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gandt_embedding.bootstrap import bootstrap
from gandt_embedding.settings import Settings
from PIL import Image

from gandt.adapters.image_decode import ImageDecoder
from gandt.adapters.local_files import LocalFiles
from gandt.adapters.torch_hog import TorchHog
from gandt.client.connection import Channel, connect
from gandt.client.embedding import EmbeddingClient
from gandt.domain.embedding import ImageInput, StreamItems, StreamOpen, StreamOpened, StreamResults
from gandt.domain.errors import InvalidInput, NotFound, WrongState
from gandt.runtime.server import ServerThread
from gandt.wire import embedding as wire


def png(seed: int, size: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embedding")


@pytest.fixture(scope="module")
def channel(folder: Path) -> Iterator[Channel]:
    settings = Settings(port=0, health_port=None, metrics_port=None, data_dir=folder, stream_window=8, torch_threads=1)
    with (
        ServerThread(bootstrap(settings), settings) as server,
        connect(server.addresses["embedding"].service, service="embedding") as opened,
    ):
        yield opened


@pytest.fixture(scope="module")
def client(channel: Channel) -> EmbeddingClient:
    return EmbeddingClient(channel)


def test_the_model_describes_itself(client: EmbeddingClient) -> None:
    info = client.get_model()
    assert info == TorchHog(ImageDecoder()).info
    assert client.get_model(info.model_id) == info
    assert client.list_models() == [info]
    assert "no weights" in info.weights_source


def test_an_unknown_model_is_not_found(client: EmbeddingClient) -> None:
    with pytest.raises(NotFound) as caught:
        client.get_model("resnet50-000000000000")
    assert caught.value.reason == "MODEL_NOT_FOUND"


def test_embed_answers_each_image_in_order_and_bad_ones_alone(client: EmbeddingClient) -> None:
    pixels = np.asarray(Image.open(io.BytesIO(png(1))))
    results = client.embed(
        [
            ImageInput("a", png(1)),
            ImageInput("broken", png(2)[:100]),
            ImageInput("", png(3)),
            ImageInput("decoded", pixels=pixels),
            ImageInput("flat", pixels=np.zeros(7, np.uint8)[None, None]),
            ImageInput("nothing"),
            ImageInput("bad\nid", png(4)),
        ]
    )
    assert [r.image_id for r in results] == ["a", "broken", "2", "decoded", "flat", "nothing", "bad\nid"]
    reasons = [r.error.reason if r.error else "" for r in results]
    assert reasons == ["", "IMAGE_TRUNCATED", "", "", "BAD_PIXELS", "IMAGE_EMPTY", "BAD_IMAGE_ID"]
    first, third, decoded = results[0].vector, results[2].vector, results[3].vector
    assert first is not None
    assert third is not None
    assert first.shape == (client.get_model().dim,)
    assert abs(float(np.linalg.norm(first)) - 1) < 1e-5
    assert not np.array_equal(first, third)
    np.testing.assert_array_equal(first, decoded)


def test_a_repeated_image_comes_from_the_cache_with_the_same_vector(client: EmbeddingClient) -> None:
    fresh, again = (client.embed([ImageInput("x", png(77))])[0] for _ in range(2))
    assert (fresh.cached, again.cached) == (False, True)
    np.testing.assert_array_equal(fresh.vector, again.vector)


def test_float16_travels_at_half_the_size(client: EmbeddingClient) -> None:
    image = ImageInput("x", png(5))
    full = client.embed([image])[0].vector
    half = client.embed([image], dtype=np.dtype(np.float16))[0].vector
    assert full is not None
    np.testing.assert_array_equal(full.astype(np.float16).astype(np.float32), half)


def test_another_model_than_expected_is_refused(client: EmbeddingClient) -> None:
    with pytest.raises(WrongState) as caught:
        client.embed([ImageInput("x", png(1))], model_id="hog-000000000000")
    assert caught.value.reason == "MODEL_MISMATCH"
    with pytest.raises(WrongState):
        list(client.embed_stream([ImageInput("x", png(1))], model_id="hog-000000000000"))


def test_one_call_takes_at_most_32_images(channel: Channel, client: EmbeddingClient) -> None:
    images = [ImageInput(str(i), png(i)) for i in range(33)]
    with pytest.raises(InvalidInput) as caught:
        wire.Stub(channel).Embed(wire.embed_request_message(images, "", None))
    assert caught.value.reason == "BAD_BATCH"
    assert [r.sequence for r in client.embed(images)] == list(range(33))  # the client makes two calls of it


def test_a_text_for_a_model_without_a_text_tower_fails_alone_and_says_why(client: EmbeddingClient) -> None:
    text, photo = client.embed([ImageInput("q", text="a red dress"), ImageInput("p", png(1))])
    assert photo.vector is not None
    assert text.error is not None
    assert text.error.reason == "TEXT_UNSUPPORTED"
    assert "open_clip" in str(text.error)
    with pytest.raises(InvalidInput) as caught:
        client.embed_texts(["a red dress"])
    assert caught.value.reason == "TEXT_UNSUPPORTED"


def test_objects_are_read_from_the_store(client: EmbeddingClient, folder: Path) -> None:
    LocalFiles(folder / "objects").put("s3://gandt/photos/1.png", png(1))
    found, missing, foreign = client.embed(
        [ImageInput(uri="s3://gandt/photos/1.png"), ImageInput(uri="s3://gandt/2.png"), ImageInput(uri="http://x/y")]
    )
    np.testing.assert_array_equal(found.vector, client.embed([ImageInput("a", png(1))])[0].vector)
    assert isinstance(missing.error, NotFound)
    assert isinstance(foreign.error, InvalidInput)


def test_a_stream_with_broken_images_loses_none_of_the_good(client: EmbeddingClient) -> None:
    broken = set(range(7, 200, 20))
    images = [ImageInput(f"i{n}", png(n, 9)[: 40 if n in broken else None]) for n in range(200)]
    results = list(client.embed_stream(iter(images)))
    assert sorted(r.sequence for r in results) == list(range(200))
    assert {r.sequence for r in results if r.error} == broken
    assert all(r.image_id == f"i{r.sequence}" for r in results)
    single = client.embed([images[3]])[0].vector
    np.testing.assert_array_equal(next(r.vector for r in results if r.sequence == 3), single)


def test_an_empty_stream_ends_well(client: EmbeddingClient) -> None:
    assert list(client.embed_stream([])) == []


def test_what_the_images_raise_reaches_the_reader(client: EmbeddingClient) -> None:
    def images() -> Iterator[ImageInput]:
        yield ImageInput("a", png(1))
        raise InvalidInput("the disk is gone")

    with pytest.raises(InvalidInput, match="the disk is gone"):
        list(client.embed_stream(images()))


def test_a_reader_may_stop_early_and_slow_readers_hold_the_sender_back(client: EmbeddingClient) -> None:
    taken: list[int] = []

    def images() -> Iterator[ImageInput]:
        for n in range(10_000):
            taken.append(n)
            yield ImageInput(str(n), png(n % 5, 9))

    results = client.embed_stream(images())
    for _ in range(3):
        next(results)
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 500


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "STREAM_NOT_OPENED"),
        ([wire.items_message(StreamItems(0, []))], "STREAM_NOT_OPENED"),
        ([wire.open_message(StreamOpen())] * 2, "STREAM_OPENED_TWICE"),
        (
            [
                wire.open_message(StreamOpen()),
                wire.items_message(StreamItems(5, [ImageInput("a", png(1))])),
                wire.items_message(StreamItems(7, [ImageInput("b", png(1))])),
            ],
            "SEQUENCE_GAP",
        ),
        ([wire.open_message(StreamOpen()), type(wire.open_message(StreamOpen()))()], "EMPTY_MESSAGE"),
    ],
)
def test_streams_that_break_the_contract_are_refused(channel: Channel, messages: list[object], reason: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        list(wire.Stub(channel).EmbedStream(iter(messages)))  # type: ignore[arg-type]
    assert caught.value.reason == reason


def test_a_resumed_stream_goes_on_counting(channel: Channel) -> None:
    images = [ImageInput("a", png(1)), ImageInput("b", png(2))]
    requests = iter([wire.open_message(StreamOpen()), wire.items_message(StreamItems(40, images))])
    opened, *answers = wire.stream_answers(wire.Stub(channel).EmbedStream(requests))
    assert isinstance(opened, StreamOpened)
    assert opened.window_images == 8
    last = answers[-1]
    assert isinstance(last, StreamResults)
    assert last.contiguous_ack == 42
    seen = sorted(r.sequence for a in answers if isinstance(a, StreamResults) for r in a.results)
    assert seen == [40, 41]
