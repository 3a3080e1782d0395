# SPDX-License-Identifier: GPL-3.0-or-later
"""What the client's channel does by itself: lazy targets, retries, deadlines, closing."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from gandt.client.connection import Channel, Target, connect
from gandt.domain.errors import BackendUnavailable, DeadlineExceeded
from gandt.runtime.server import ServerThread
from gandt.runtime.service_settings import ServiceSettings

ECHO = "/gandt.echo.v1.EchoService/Echo"


def test_the_target_is_looked_up_once_at_the_first_call(echo: Any) -> None:
    asked: list[int] = []

    def find() -> Target:
        asked.append(1)
        return Target(echo.addresses.service)

    with Channel(find, service="echo") as channel:
        call = channel.unary_unary(ECHO)
        assert asked == []
        assert [call(b"a"), call(b"b")] == [b"a", b"b"]
    assert asked == [1]


def test_many_threads_share_one_first_connection(echo: Any) -> None:
    answers: list[bytes] = []
    together = threading.Barrier(8)
    with connect(echo.addresses.service, service="echo") as channel:

        def call() -> None:
            together.wait(10)
            answers.append(channel.unary_unary(ECHO)(b"x"))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert answers == [b"x"] * 8


def test_a_restart_of_the_server_is_survived(start_echo: Any, echo_app: Any) -> None:
    first = start_echo()
    assert first.call("Echo", b"x") == b"x"
    port = int(first.addresses.service.rsplit(":", 1)[1])
    settings = ServiceSettings(port=port, health_port=None, metrics_port=None, drain_seconds=1)
    first.thread.stop()
    second = ServerThread(echo_app.application(echo_app.EchoService()), settings)
    starter = threading.Timer(0.2, second.start)
    starter.start()
    try:
        assert first.call("Echo", b"y") == b"y", "the call is sent again until the server is back"
    finally:
        starter.join()
        second.stop()


def test_a_server_that_stays_away_is_an_error_soon(start_echo: Any) -> None:
    echo = start_echo()
    assert echo.call("Echo", b"x") == b"x"
    echo.thread.stop()
    with pytest.raises(BackendUnavailable) as caught:
        echo.call("Echo", b"x")
    assert caught.value.backend == "echo"


def test_the_deadline_is_the_callers(echo: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        echo.call("Block", timeout=0.1)
    with pytest.raises(DeadlineExceeded):
        list(echo.stream("Watch", timeout=0.1))


def test_a_closed_channel_says_so(echo: Any) -> None:
    channel = connect(echo.addresses.service, service="echo")
    call = channel.unary_unary(ECHO)
    channel.close()
    channel.close()
    with pytest.raises(BackendUnavailable) as caught:
        call(b"x")
    assert caught.value.reason == "CHANNEL_CLOSED"
