# SPDX-License-Identifier: GPL-3.0-or-later
"""Health, drain, limits, tokens, deadlines, request ids, metrics and ports of a running server."""

from __future__ import annotations

import io
import json
import logging
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gandt.client.connection import connect
from gandt.domain.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    GandtError,
    InvalidInput,
    Overloaded,
    Unauthenticated,
    WrongState,
)
from gandt.runtime.application import Application
from gandt.runtime.logs import configure_logging
from gandt.runtime.server import ServerThread
from gandt.runtime.service_settings import ServiceSettings
from gandt.wire import request_ids

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def eventually(condition: Callable[[], Any], what: str, seconds: float = 10.0) -> Any:
    """The first true value of the condition."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        if value := condition():
            return value
        threading.Event().wait(0.01)
    raise AssertionError(f"{what}: not within {seconds} s")


def test_health_answers_while_every_worker_is_busy(start_echo: Any) -> None:
    echo = start_echo(workers=2, queue=8, health_port=0)
    with ThreadPoolExecutor(6) as callers:
        calls = [callers.submit(echo.call, "Block") for _ in range(6)]
        assert echo.service.started.acquire(timeout=5)
        assert echo.service.started.acquire(timeout=5)
        for address in (echo.addresses.service, echo.addresses.health):
            began = time.perf_counter()
            assert echo.health(address=address) == SERVING
            assert echo.health("", address=address) == SERVING
            assert time.perf_counter() - began < 2
        echo.service.release.set()
        assert {call.result() for call in calls} == {b"done"}


def test_a_full_queue_refuses_and_says_when_to_come_back(start_echo: Any) -> None:
    echo = start_echo(workers=1, queue=0)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(echo.call, "Block")
        assert echo.service.started.acquire(timeout=5)
        with pytest.raises(Overloaded) as caught:
            echo.call("Echo", b"x")
        assert caught.value.retry_after_seconds == 1.0
        echo.service.release.set()
        assert call.result() == b"done"
    eventually(lambda: _echoes(echo), "a free worker")


def _echoes(echo: Any) -> bool:
    try:
        return bool(echo.call("Echo", b"x") == b"x")
    except Overloaded:
        return False


def test_drain_finishes_running_calls_and_refuses_new_ones(start_echo: Any) -> None:
    echo = start_echo(health_port=0)
    with ThreadPoolExecutor(2) as callers:
        call = callers.submit(echo.call, "Block")
        assert echo.service.started.acquire(timeout=5)
        stopped = callers.submit(echo.thread.stop)
        eventually(lambda: echo.health(address=echo.addresses.health) == NOT_SERVING, "health of a draining server")
        assert echo.health("", address=echo.addresses.health) == SERVING
        with pytest.raises(BackendUnavailable):
            connect(echo.addresses.service, service="echo", connect_seconds=0.3).unary_unary("/x/Y")(b"")
        assert not call.done()
        echo.service.release.set()
        assert call.result() == b"done"
        stopped.result(timeout=10)
    assert echo.service.closed == 1


def test_drain_cancels_what_does_not_finish_in_time(start_echo: Any) -> None:
    echo = start_echo(drain_seconds=0.2)
    with ThreadPoolExecutor(1) as callers:
        call = callers.submit(echo.call, "Block", timeout=30)
        assert echo.service.started.acquire(timeout=5)
        echo.thread.stop()
        assert isinstance(call.exception(timeout=10), BackendUnavailable)
    assert echo.service.ended == ["CALL_CANCELLED"]


def test_watchers_do_not_hold_up_the_drain(start_echo: Any) -> None:
    echo = start_echo(drain_seconds=30)
    watch = echo.stream("Watch")
    assert next(watch) == b"first"
    with grpc.insecure_channel(echo.addresses.service) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=""))
        assert next(health).status == SERVING
        began = time.monotonic()
        echo.thread.stop()
        assert time.monotonic() - began < 10
        with pytest.raises(BackendUnavailable):
            next(watch)


@pytest.mark.parametrize("given", [None, "wrong", "sésame"])
def test_token_errors(start_echo: Any, given: str | None) -> None:
    echo = start_echo(token="right")
    assert echo.call("Echo", b"x") == b"x"
    assert echo.health() == SERVING, "a load balancer has no token"
    metadata = [] if given is None else [("authorization", f"Bearer {given}".encode().decode("latin-1"))]
    if given == "sésame":
        metadata = [("authorization", "Bearer s%C3%A9same")]
    with connect(echo.addresses.service, service="echo") as channel, pytest.raises(Unauthenticated) as caught:
        channel.unary_unary("/gandt.echo.v1.EchoService/Echo")(b"x", metadata=metadata)
    assert caught.value.reason == ("NO_TOKEN" if given is None else "BAD_TOKEN")
    assert "right" not in str(caught.value)


def test_messages_up_to_the_limit_pass(start_echo: Any) -> None:
    echo = start_echo(max_message_bytes=(41 << 20))
    big = bytes(40 << 20)
    assert len(echo.call("Echo", big)) == len(big)


def test_a_message_over_the_limit_is_refused(start_echo: Any) -> None:
    echo = start_echo(max_message_bytes=1 << 20)
    assert len(echo.call("Echo", bytes((1 << 20) - 10))) == (1 << 20) - 10
    with pytest.raises(InvalidInput) as caught:
        echo.call("Echo", bytes(2 << 20))
    assert caught.value.reason == "MESSAGE_TOO_LARGE"


def test_a_deadline_ends_the_work_too(echo: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        echo.call("Block", timeout=0.2)
    eventually(lambda: echo.service.ended, "the worker stops")
    assert echo.service.ended[0] in ("CALL_CANCELLED", "DEADLINE_EXCEEDED")


def test_a_caller_who_leaves_ends_the_work(echo: Any) -> None:
    stream = echo.stream("Count", b"1000000")
    assert [next(stream) for _ in range(3)] == [b"0", b"1", b"2"]
    stream.close()
    eventually(lambda: echo.service.ended == ["count"], "the generator is closed")
    assert echo.service.produced < 1_000_000


def test_a_caller_who_leaves_ends_the_request_stream(echo: Any) -> None:
    hold = threading.Event()

    def requests() -> Iterator[bytes]:
        yield b"a"
        hold.wait(10)

    responses = echo.channel.stream_stream("/gandt.echo.v1.EchoService/Double")(requests())
    assert next(responses) == b"aa"
    responses.close()
    eventually(lambda: echo.service.ended == ["double"], "the request iterator ends")
    hold.set()


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "cancelled"])
def test_a_stream_that_broke_off_is_not_taken_for_finished(echo: Any, kill: bool) -> None:
    script = (
        "import grpc, sys, time\n"
        "def numbers():\n"
        "    yield b'1'\n"
        "    time.sleep(60)\n"
        f"channel = grpc.insecure_channel({echo.addresses.service!r})\n"
        "call = channel.stream_unary('/gandt.echo.v1.EchoService/Total').future(numbers())\n"
        "sys.stdin.readline()\n"
        "call.cancel()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as client:
        assert echo.service.started.acquire(timeout=30)
        if kill:
            client.kill()
        else:
            client.communicate("\n")
        eventually(lambda: echo.service.ended, "the use case ends")
        client.kill()
    assert echo.service.ended == ["CALL_CANCELLED"]


def test_a_slow_reader_slows_the_producer(echo: Any) -> None:
    # 64 KiB each way through flow control and our own small buffer: the producer cannot run far ahead.
    payloads = (bytes(64 << 10) for _ in range(10_000))
    sent = 0

    def requests() -> Iterator[bytes]:
        nonlocal sent
        for payload in payloads:
            sent += 1
            yield payload

    responses = echo.channel.stream_stream("/gandt.echo.v1.EchoService/Double")(requests())
    assert len(next(responses)) == 128 << 10
    before = -1
    while before != sent:  # until it stands still
        before = sent
        threading.Event().wait(0.3)
    assert sent < 1_000
    responses.close()


def test_streams_of_both_directions(echo: Any) -> None:
    service = "/gandt.echo.v1.EchoService"
    doubled = echo.channel.stream_stream(f"{service}/Double")(b"%d" % i for i in range(500))
    assert list(doubled) == [b"%d%d" % (i, i) for i in range(500)]
    assert echo.channel.stream_unary(f"{service}/Total")(b"%d" % i for i in range(500)) == b"124750"
    assert list(echo.stream("Count", b"0")) == []


def test_many_watchers_leave_the_workers_free(start_echo: Any) -> None:
    echo = start_echo(workers=1, streams=3)
    watches = [echo.stream("Watch") for _ in range(3)]
    assert [next(watch) for watch in watches] == [b"first"] * 3
    assert echo.call("Echo", b"x") == b"x"
    with pytest.raises(Overloaded):
        next(echo.stream("Watch"))
    for watch in watches:
        watch.close()


def test_request_ids_travel(echo: Any) -> None:
    method = echo.channel._open().unary_unary("/gandt.echo.v1.EchoService/WhoAmI")
    answer, call = method.with_call(b"", metadata=[(request_ids.HEADER, "abc-1")])
    assert answer == b"abc-1"
    assert dict(call.trailing_metadata())[request_ids.HEADER] == "abc-1"
    _, call = method.with_call(b"", metadata=[(request_ids.HEADER, "x" * 999)])
    assert len(dict(call.trailing_metadata())[request_ids.HEADER]) == 16
    token = request_ids.CURRENT.set("from-outside")
    try:
        assert echo.call("WhoAmI") == b"from-outside", "our client passes on the id of the call it works for"
    finally:
        request_ids.CURRENT.reset(token)
    assert len(echo.call("WhoAmI")) == 16


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("gandt")
    before = (list(root.handlers), root.level, ours.level)
    stream = io.StringIO()
    configure_logging("debug", "json", stream)
    yield stream
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


def test_a_logged_traceback_tells_no_local_variables(logged: io.StringIO) -> None:
    def fail() -> None:
        cookie = "-".join(("session", "secret"))
        raise ValueError(f"a cookie of {len(cookie)} letters")

    try:
        fail()
    except ValueError:
        logging.getLogger("gandt.test").exception("it failed")
    line = json.loads(logged.getvalue())
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert [frame["name"] for frame in line["exception"][0]["frames"]][-1] == "fail"
    assert "session-secret" not in logged.getvalue()


def test_log_lines_carry_the_request_id(echo: Any, logged: io.StringIO) -> None:
    token = request_ids.CURRENT.set("find-me")
    try:
        echo.call("Echo", b"12345")
    finally:
        request_ids.CURRENT.reset(token)
    eventually(lambda: "call finished" in logged.getvalue(), "the access line")
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    inside = next(line for line in lines if line["event"] == "echoing")
    access = next(line for line in lines if line["event"] == "call finished")
    assert inside["size"] == 5
    assert access["code"] == "OK"
    for line in (inside, access):
        assert line["request_id"] == "find-me"
        assert line["method"] == "gandt.echo.v1.EchoService/Echo"
        assert line["timestamp"].endswith("Z")


def test_metrics_are_counted(start_echo: Any) -> None:
    echo = start_echo(metrics_port=0, token="t")
    echo.call("Echo", b"x")
    list(echo.stream("Count", b"3"))
    with pytest.raises(GandtError):
        list(echo.stream("Count", b"not a number"))
    with connect(echo.addresses.service, service="echo") as stranger, pytest.raises(Unauthenticated):
        stranger.unary_unary("/gandt.echo.v1.EchoService/Echo")(b"x")
    page = eventually(lambda: _page(echo, "Unauthenticated"), "the metrics page")
    labels = 'grpc_method="{}",grpc_service="gandt.echo.v1.EchoService",grpc_type="{}"'
    unary, stream = labels.format("Echo", "unary"), labels.format("Count", "server_stream")
    assert f"grpc_server_started_total{{{unary}}} 2.0" in page
    assert f'grpc_server_handled_total{{grpc_code="OK",{unary}}} 1.0' in page
    assert f'grpc_server_handled_total{{grpc_code="Unauthenticated",{unary}}} 1.0' in page
    assert f'grpc_server_handled_total{{grpc_code="OK",{stream}}} 1.0' in page
    assert f'grpc_server_handled_total{{grpc_code="Internal",{stream}}} 1.0' in page
    assert f"grpc_server_handling_seconds_count{{{unary}}} 2.0" in page
    assert "process_resident_memory_bytes" in page


def _page(echo: Any, wanted: str) -> str:
    with urllib.request.urlopen(echo.addresses.metrics, timeout=5) as answer:
        text = str(answer.read().decode())
    return text if wanted in text else ""


def test_reflection_lists_the_service(echo: Any) -> None:
    with grpc.insecure_channel(echo.addresses.service) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answer = next(stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")])))
    assert "gandt.echo.v1.EchoService" in [each.name for each in answer.list_services_response.service]


@pytest.mark.parametrize("key", ["port", "health_port", "metrics_port"])
def test_a_busy_port_is_named(start_echo: Any, key: str) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(WrongState) as caught:
            start_echo(**{key: port})
    assert caught.value.reason == "PORT_IN_USE"
    assert str(port) in caught.value.message
    assert f"GANDT_ECHO__{key.upper()}" in caught.value.fix
    assert ("--port" in caught.value.fix) == (key == "port")


def test_an_address_of_another_machine_is_named(start_echo: Any) -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(InvalidInput) as caught:
            start_echo(host=host)
        assert caught.value.reason == "HOST_NOT_OURS"
        assert host in caught.value.message


def test_two_servers_do_not_share_a_port(start_echo: Any) -> None:
    first = start_echo()
    port = int(first.addresses.service.rsplit(":", 1)[1])
    with pytest.raises(WrongState):
        start_echo(port=port)
    assert first.call("Echo", b"x") == b"x"


def test_calls_wait_until_the_service_is_warm(echo_app: Any) -> None:
    warming, warm = threading.Event(), threading.Event()

    def warm_up() -> None:
        warming.set()
        warm.wait(10)

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    app = echo_app.application(echo_app.EchoService())
    app.warm_up = warm_up
    thread = ServerThread(app, ServiceSettings(port=port, health_port=None, metrics_port=None, drain_seconds=1))
    with ThreadPoolExecutor(1) as starter, connect(f"127.0.0.1:{port}", service="echo") as channel:
        started = starter.submit(thread.start)
        assert warming.wait(10)
        call = channel.unary_unary("/gandt.echo.v1.EchoService/Echo")
        with pytest.raises(BackendUnavailable) as caught:
            call(b"x")
        assert caught.value.reason == "WARMING_UP"
        warm.set()
        started.result(timeout=10)
        assert call(b"x") == b"x"
    thread.stop()


def test_a_failed_warm_up_stops_the_start() -> None:
    closed: list[int] = []

    def warm_up() -> None:
        raise InvalidInput("the weights are missing", field="weights")

    app = Application("bad", "x.Bad", warm_up=warm_up, close=lambda: closed.append(1))
    with pytest.raises(InvalidInput):
        ServerThread(app).start()
    assert closed == [1]
