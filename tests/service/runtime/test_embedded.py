# SPDX-License-Identifier: GPL-3.0-or-later
"""Services inside this process: started on demand, on a socket of their own, drained at the end."""

from __future__ import annotations

import asyncio
import gc
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from gandt_standalone import catalog
from pydantic_settings import SettingsConfigDict

from gandt.client.connection import connect
from gandt.domain.errors import InvalidInput, WrongState
from gandt.embedded.services import EmbeddedServices
from gandt.runtime.application import Application
from gandt.runtime.peers import Peers
from gandt.runtime.service_settings import ServiceSettings
from gandt.runtime.work_pool import WorkPool

CALL = "/gandt.toy.v1.ToyService/Call"


class Toy(ServiceSettings):
    """GANDT_TOY__<KEY>."""

    model_config = SettingsConfigDict(env_prefix="GANDT_TOY__")
    greeting: str = "hello"


class Toys:
    """Loads the services `front`, which calls `back`, and `knot`, which waits for itself."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.settings: list[Toy] = []
        self.starting, self.release = threading.Event(), threading.Event()

    def load(self, name: str) -> catalog.Service:
        if name not in ("front", "back", "knot", "slow"):
            return catalog.load(name)
        return catalog.Service(name, Toy, lambda settings, peers: self._bootstrap(name, settings, peers))

    def _bootstrap(self, name: str, settings: Any, peers: Peers) -> Application:
        self.events.append(f"build {name}")
        self.settings.append(settings)
        if name == "knot":
            peers.endpoint("knot")
        back = peers.connect("back").unary_unary(CALL)

        def answer(request: bytes) -> bytes:
            reply = settings.greeting.encode() + b" " + request
            return bytes(back(reply)) if name == "front" else reply

        def register(server: grpc.aio.Server, pool: WorkPool) -> None:
            async def call(request: bytes, context: Any) -> bytes:
                return await pool.call(context, answer, request)

            handlers: dict[str, Any] = {"Call": grpc.unary_unary_rpc_method_handler(call)}
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler("gandt.toy.v1.ToyService", handlers),)
            )

        def warm_up() -> None:
            if name == "slow":
                self.starting.set()
                self.release.wait(10)

        def close() -> None:
            self.events.append(f"close {name}")

        return Application(name, "gandt.toy.v1.ToyService", register, close=close, warm_up=warm_up)


def test_services_start_on_demand_and_find_each_other(tmp_path: Path) -> None:
    toys = Toys()
    with EmbeddedServices(tmp_path, {"front": {"greeting": "good"}, "back": {"greeting": "day"}}, load=toys.load) as it:
        endpoint = it.endpoint("front", workers=3)
        assert toys.events == ["build front"], "the peer was named, not called"
        assert endpoint.startswith("unix:")
        socket = Path(endpoint.removeprefix("unix:"))
        assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
        with connect(endpoint, service="front") as channel:
            assert channel.unary_unary(CALL)(b"you") == b"day good you"
        assert it.endpoint("front") == endpoint
        assert toys.events == ["build front", "build back"]
        assert (toys.settings[0].data_dir, toys.settings[0].workers) == (tmp_path / ".gandt", 3)
    assert sorted(toys.events[2:]) == ["close back", "close front"]
    assert not socket.parent.exists()
    with pytest.raises(WrongState):
        it.endpoint("front")


def test_many_callers_start_a_service_once() -> None:
    toys = Toys()
    together = threading.Barrier(8)

    def ask(it: EmbeddedServices) -> str:
        together.wait(10)
        return it.endpoint("back")

    with EmbeddedServices(load=toys.load) as it, ThreadPoolExecutor(8) as callers:
        endpoints = {each.result() for each in [callers.submit(ask, it) for _ in range(8)]}
    assert len(endpoints) == 1
    assert toys.events == ["build back", "close back"]


def test_other_settings_for_a_running_service_are_refused() -> None:
    with EmbeddedServices(load=Toys().load) as it:
        it.endpoint("back", greeting="one")
        it.endpoint("back", greeting="one")
        with pytest.raises(WrongState) as caught:
            it.endpoint("back", greeting="two")
    assert caught.value.reason == "OTHER_SETTINGS"


def test_a_service_that_waits_for_itself_is_an_error_and_no_hang() -> None:
    with EmbeddedServices(load=Toys().load) as it, pytest.raises(WrongState, match="knot -> knot"):
        it.endpoint("knot")


@pytest.mark.filterwarnings("error")
def test_closing_stops_a_service_that_is_still_starting(caplog: pytest.LogCaptureFixture) -> None:
    toys = Toys()
    with ThreadPoolExecutor(1) as callers:
        with EmbeddedServices(load=toys.load) as it:
            asked = callers.submit(it.endpoint, "slow")
            assert toys.starting.wait(10)
            threading.Timer(0.1, toys.release.set).start()
        assert toys.events == ["build slow", "close slow"]
        with pytest.raises(WrongState, match="are closed"):
            asked.result(10)
    gc.collect()
    assert not caplog.records


@pytest.mark.filterwarnings("error")
def test_an_interrupted_start_is_undone(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    toys = Toys()
    with EmbeddedServices(load=toys.load) as it:
        run, runs = it._loop.run, []

        def interrupted(work: Any) -> Any:
            runs.append(work)
            if len(runs) > 1:
                return run(work)
            asyncio.run_coroutine_threadsafe(work, it._loop._loop)
            assert toys.starting.wait(10)
            toys.release.set()
            raise KeyboardInterrupt

        monkeypatch.setattr(it._loop, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            it.endpoint("slow")
        assert toys.events == ["build slow", "close slow"]
        assert it.endpoint("slow"), "it can be asked for again"
    assert toys.events == ["build slow", "close slow"] * 2
    gc.collect()
    assert not caplog.records


def test_a_service_that_does_not_close_is_logged_and_the_others_close(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    toys = Toys()
    with EmbeddedServices(load=toys.load) as it:
        it.endpoint("back")
        monkeypatch.setattr(it._peers, "close", lambda: 1 / 0)
    assert toys.events == ["build back", "close back"]
    assert "did not close" in caplog.text


def test_wrong_names_and_settings() -> None:
    with EmbeddedServices(load=Toys().load) as it:
        with pytest.raises(InvalidInput) as caught:
            it.endpoint("embeding")
        assert caught.value.fix == "did you mean embedding?"
        with pytest.raises(InvalidInput):
            it.endpoint("back", greting="x")


def test_a_servers_token_does_not_lock_out_its_own_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GANDT_TOY__TOKEN", "secret")
    with EmbeddedServices(load=Toys().load) as it, connect(it.endpoint("back"), service="back") as channel:
        assert channel.unary_unary(CALL)(b"x") == b"hello x"
