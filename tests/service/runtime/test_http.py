# SPDX-License-Identifier: GPL-3.0-or-later
"""An HTTP service under the same runtime."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from gandt.domain.errors import WrongState
from gandt.runtime.application import Application
from gandt.runtime.server import ServerThread
from gandt.runtime.service_settings import ServiceSettings


class Page:
    """An HTTP application with one slow page."""

    def __init__(self) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self.closed = 0
        registry = CollectorRegistry()
        self.hits = Counter("gandt_page_hits_total", "Hits.", registry=registry)

        def slow(_: Request) -> PlainTextResponse:
            self.entered.set()
            self.release.wait(10)
            self.hits.inc()
            return PlainTextResponse("done")

        self.app = Application(
            "page", http=Starlette(routes=[Route("/slow", slow)]), close=self.close, registry=registry
        )

    def close(self) -> None:
        self.closed += 1


def _get(url: str) -> tuple[int, str, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers


def _settings(**values: Any) -> ServiceSettings:
    return ServiceSettings(**{"health_port": None, "drain_seconds": 5.0, **values})


def test_pages_probes_metrics_and_request_ids() -> None:
    page = Page()
    page.release.set()
    with ServerThread(page.app, _settings(metrics_port=0)) as thread:
        found = thread.addresses["page"]
        status, text, headers = _get(f"{found.service}/slow")
        assert (status, text, len(headers["x-request-id"])) == (200, "done", 16)
        assert _get(f"{found.service}/healthz")[:2] == (200, "serving")
        assert _get(f"{found.service}/readyz")[:2] == (200, "serving")
        assert _get(f"{found.service}/none")[0] == 404
        assert "gandt_page_hits_total 1.0" in _get(found.metrics)[1]
    assert page.closed == 1


def test_no_lifespan_task_is_left_to_be_cancelled_at_the_end() -> None:
    page = Page()
    inner, scopes = page.app.http, []

    async def recording(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope["type"])
        await inner(scope, receive, send)

    page.release.set()
    with ServerThread(replace(page.app, http=recording), _settings(metrics_port=None)) as thread:
        assert _get(f"{thread.addresses['page'].service}/slow")[0] == 200
    assert scopes == ["http"]


def test_drain_finishes_the_running_request() -> None:
    page = Page()
    with ServerThread(page.app, _settings(metrics_port=None)) as thread, ThreadPoolExecutor(2) as callers:
        request = callers.submit(_get, f"{thread.addresses['page'].service}/slow")
        assert page.entered.wait(10)
        stopped = callers.submit(thread.stop)
        assert not stopped.done()
        page.release.set()
        assert request.result(timeout=10)[:2] == (200, "done")
        stopped.result(timeout=10)
    assert page.closed == 1


def test_a_busy_port_is_named() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(WrongState, match=str(port)):
            ServerThread(Page().app, _settings(port=port, metrics_port=None)).start()
