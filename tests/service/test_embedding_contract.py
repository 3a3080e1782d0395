# SPDX-License-Identifier: GPL-3.0-or-later
"""What clients of a busy, a draining and a slow embedding service see, over real gRPC on a model held by hand."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from gandt_embedding.admission import Limits
from gandt_embedding.cache import VectorCache
from gandt_embedding.pipeline import Pipeline
from gandt_embedding.service import EmbeddingService
from gandt_embedding.servicer import EmbeddingServicer
from gandt_embedding.settings import Settings
from grpc_health.v1 import health_pb2, health_pb2_grpc
from numpy.typing import NDArray
from PIL import Image

from gandt.adapters.memory_clock import MemoryMeter
from gandt.adapters.memory_objects import MemoryObjects
from gandt.adapters.system_clock import SystemClock
from gandt.client.connection import Channel, connect
from gandt.client.embedding import EmbeddingClient
from gandt.domain.embedding import ImageInput, StreamItems, StreamOpen, StreamResults
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, GandtError, InvalidInput, Overloaded
from gandt.runtime.application import Application
from gandt.runtime.server import ServerThread
from gandt.wire import embedding as wire
from tests.embedding_world import WAIT, Held, eventually, png


def image(seed: int) -> ImageInput:
    return ImageInput(str(seed), png(seed))


@dataclass
class World:
    model: Held
    meter: MemoryMeter
    thread: ServerThread
    channel: Channel
    client: EmbeddingClient

    @property
    def address(self) -> str:
        return self.thread.addresses["embedding"].service

    def admitted(self, count: int) -> None:
        eventually(lambda: self.meter.value("gandt_embedding_queue_items") == count)

    def decoded(self, count: int) -> None:
        eventually(lambda: len(self.meter.observations("gandt_embedding_stage_seconds", stage="decode")) == count)


@pytest.fixture
def start() -> Iterator[Callable[..., World]]:
    """Starts a service; keywords are the pipeline's limits."""
    with ExitStack() as stack:

        def begin(window: int = 8, **limits: Any) -> World:
            model, meter = Held(), MemoryMeter()
            service = EmbeddingService(
                lambda: Pipeline(model, MemoryObjects(), VectorCache(0), Limits(**limits), meter, SystemClock()),
                window,
            )
            app = Application(
                name="embedding",
                grpc_service=wire.SERVICE,
                register=lambda server, pool: wire.add_servicer(EmbeddingServicer(service, pool), server),
                warm_up=service.warm_up,
                close=service.close,
            )
            settings = Settings(port=0, health_port=None, metrics_port=None, drain_seconds=WAIT)
            thread = stack.enter_context(ServerThread(app, settings))
            stack.callback(model.gate.set)
            channel = stack.enter_context(connect(thread.addresses["embedding"].service, service="embedding"))
            return World(model, meter, thread, channel, EmbeddingClient(channel))

        yield begin


def test_a_full_queue_refuses_with_a_time_to_come_back(start: Callable[..., World]) -> None:
    world = start(queue_items=4)
    with ThreadPoolExecutor(1) as caller:
        taken = caller.submit(world.client.embed, [image(n) for n in range(4)])
        world.admitted(4)
        with pytest.raises(Overloaded) as caught:
            world.client.embed([image(9)])
        assert caught.value.reason == "QUEUE_FULL"
        assert caught.value.retry_after_seconds > 0
        world.model.gate.set()
        assert all(result.vector is not None for result in taken.result(WAIT))
    assert world.client.embed([image(9)])[0].vector is not None


def test_hundreds_of_waiting_calls_do_not_keep_health_or_a_refusal_waiting(start: Callable[..., World]) -> None:
    world = start(queue_items=300)
    with ThreadPoolExecutor(1) as caller, grpc.insecure_channel(world.address) as plain:
        stub = wire.Stub(plain)
        calls = [stub.Embed.future(wire.embed_request_message([image(n)], "", None)) for n in range(300)]
        world.admitted(300)
        health = caller.submit(
            health_pb2_grpc.HealthStub(plain).Check, health_pb2.HealthCheckRequest(service=wire.SERVICE)
        )
        assert health.result(WAIT).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(Overloaded):
            world.client.embed([image(999)])
        world.model.gate.set()
        assert all(len(call.result(WAIT).results) == 1 for call in calls)


def test_a_client_that_goes_away_is_not_computed_for(start: Callable[..., World]) -> None:
    world = start(max_batch=1)
    with grpc.insecure_channel(world.address) as plain:
        stub = wire.Stub(plain)
        first = stub.Embed.future(wire.embed_request_message([image(0)], "", None))
        assert world.model.entered.wait(WAIT)
        leaving = stub.Embed.future(wire.embed_request_message([image(n) for n in range(1, 5)], "", None))
        world.decoded(5)
        leaving.cancel()
        with pytest.raises(DeadlineExceeded):  # as the one whose time runs out sees it
            world.client.embed([image(7)], timeout=0.05)
        world.model.gate.set()
        assert len(first.result(WAIT).results) == 1
        world.admitted(0)
        assert world.model.batches == [1]
        assert world.meter.value("gandt_embedding_images_total", result="dropped") == 5


def test_a_stream_whose_reader_leaves_frees_its_places(start: Callable[..., World]) -> None:
    world = start(window=8)
    results = world.client.embed_stream(map(image, range(100)))
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(next, results)
        world.admitted(8)
        world.model.gate.set()
        waiting.result(WAIT)
    results.close()  # type: ignore[attr-defined]
    world.admitted(0)
    assert sum(world.model.batches) < 100
    assert world.client.embed([image(7)])[0].vector is not None


def test_unary_calls_overtake_a_stream(start: Callable[..., World]) -> None:
    world = start(window=32, max_batch=8)
    with ThreadPoolExecutor(2) as callers:
        bulk = callers.submit(lambda: len(list(world.client.embed_stream(map(image, range(32))))))
        world.admitted(32)
        world.decoded(32)
        urgent = callers.submit(lambda: len(world.client.embed([image(100 + n) for n in range(7)])))
        world.decoded(39)
        running = next(iter(world.model.batches), 0)
        world.model.gate.set()
        assert urgent.result(WAIT) == 7
        assert bulk.result(WAIT) == 32
    assert running == 0  # the batch on the device was not out yet
    sizes = world.meter.observations("gandt_embedding_batch_size")
    assert sum(sizes) == 39
    wanted = {world.model.prepare(png(100 + n)).tobytes() for n in range(7)}
    places = [place for place, pixels in enumerate(world.model.seen) if pixels in wanted]
    assert len(places) == 7
    assert max(places) < 2 * 8  # right after the batch that was on the device already


def test_what_was_admitted_is_finished_when_the_server_stops(start: Callable[..., World]) -> None:
    world = start()
    with ThreadPoolExecutor(2) as callers:
        call = callers.submit(world.client.embed, [image(n) for n in range(12)])
        world.admitted(12)
        stopping = callers.submit(world.thread.stop)
        eventually(lambda: refused(world.client))
        world.model.gate.set()
        assert all(result.vector is not None for result in call.result(WAIT))
        stopping.result(WAIT)


def test_a_stopping_server_answers_what_it_read_and_the_client_resumes_from_the_ack(
    start: Callable[..., World],
) -> None:
    world = start(window=4)
    images = [image(n) for n in range(20)]
    more = threading.Event()

    def requests(first: int, pause: bool) -> Iterator[Any]:
        yield wire.open_message(StreamOpen())
        yield wire.items_message(StreamItems(first, images[first : first + 8]))
        if pause:
            assert more.wait(WAIT)
        yield wire.items_message(StreamItems(first + 8, images[first + 8 :]))

    seen: dict[int, NDArray[np.float32] | None] = {}
    ack = 0
    with ThreadPoolExecutor(1) as stopper:
        stopping: Any = None
        world.model.gate.set()
        failure: GandtError | None = None
        try:
            for answer in wire.stream_answers(wire.Stub(world.channel).EmbedStream(requests(0, pause=True))):
                if isinstance(answer, StreamResults):
                    seen |= {result.sequence: result.vector for result in answer.results}
                    ack = answer.contiguous_ack
                    if ack == 8 and stopping is None:
                        stopping = stopper.submit(world.thread.stop)
        except BackendUnavailable as error:
            failure = error
        more.set()
        stopping.result(WAIT)
    assert failure is not None
    assert failure.reason == "SHUTTING_DOWN"
    assert ack == 8
    other = start(window=4)
    other.model.gate.set()
    for answer in wire.stream_answers(wire.Stub(other.channel).EmbedStream(requests(ack, pause=False))):
        if isinstance(answer, StreamResults):
            seen |= {result.sequence: result.vector for result in answer.results}
            ack = answer.contiguous_ack
    assert ack == 20
    assert sorted(seen) == list(range(20))
    assert all(vector is not None for vector in seen.values())


def test_a_phrase_finds_its_image(start: Callable[..., World]) -> None:
    world = start()
    world.model.gate.set()
    assert world.client.get_model().embeds_texts
    plain = np.zeros((3, 8, 8, 3), np.uint8)
    for n, color in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255))):
        plain[n] = color
    found = world.client.embed([ImageInput(pixels=pixels) for pixels in plain])
    images = np.stack([result.vector for result in found if result.vector is not None])
    phrases = world.client.embed_texts(["blue", "a red one"])  # f32[2, D]
    assert np.argmax(phrases @ images.T, axis=1).tolist() == [2, 0]
    (streamed,) = world.client.embed_stream([ImageInput("q", text="blue")])
    np.testing.assert_array_equal(streamed.vector, phrases[0])
    with pytest.raises(InvalidInput) as caught:
        world.client.embed_texts(["red", " "])
    assert caught.value.reason == "BAD_TEXT"


def test_an_image_of_40_mib_passes_and_one_byte_more_fails_alone(start: Callable[..., World]) -> None:
    world = start(queue_bytes=64 * 2**20)
    world.model.gate.set()
    pixels = Image.effect_noise((3700, 3700), 100).convert("RGB")
    data = io.BytesIO()
    pixels.save(data, "BMP")
    limit = world.client.get_model().max_image_bytes
    largest = data.getvalue().ljust(limit, b"\0")
    assert len(largest) == limit == 40 * 2**20
    fits, above = world.client.embed([ImageInput("fits", largest), ImageInput("above", largest + b"\0")])
    assert fits.vector is not None
    assert above.error is not None
    assert above.error.reason == "IMAGE_TOO_LARGE"
    (streamed,) = world.client.embed_stream([ImageInput("fits", largest)])
    np.testing.assert_array_equal(streamed.vector, fits.vector)


def refused(client: EmbeddingClient) -> bool:
    """Whether the server takes no more calls."""
    try:
        client.embed([image(50)], timeout=0.2)
    except BackendUnavailable:
        return True
    except (DeadlineExceeded, grpc.RpcError):
        return False
    return False
