# SPDX-License-Identifier: GPL-3.0-or-later
"""Lambda handlers in their own processes: answers, faults, deadlines, crashes, environment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from gandt_labeling.lambdas.process_lambdas import ProcessLambdas

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, NotFound

HANDLERS = """
import os, time
def echo(event, context):
    print("a handler may print")
    return {"event": event, "endpoint": os.environ.get("AWS_ENDPOINT_URL_S3"), "pid": os.getpid()}
def fail(event, context):
    raise ValueError("no such thing")
def hang(event, context):
    time.sleep(60)
def crash(event, context):
    os._exit(7)
def strange(event, context):
    return {1, 2}
"""


@pytest.fixture
def lambdas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ProcessLambdas]]:
    (tmp_path / "customer_handlers.py").write_text(HANDLERS)
    monkeypatch.setenv("PYTHONPATH", ":".join([str(tmp_path), *filter(None, sys.path)]))
    made: list[ProcessLambdas] = []

    def make(environment: Mapping[str, str] | None = None) -> ProcessLambdas:
        names = ("echo", "fail", "hang", "crash", "strange", "missing")
        made.append(ProcessLambdas({name: f"customer_handlers:{name}" for name in names}, lambda: environment))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_handler_answers_and_stays_warm(lambdas: Callable[..., ProcessLambdas]) -> None:
    invoker = lambdas({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1/s3"})
    first: Any = invoker.invoke("echo", {"a": "ü\n"}, 20)
    assert first["event"] == {"a": "ü\n"}
    assert first["endpoint"] == "http://127.0.0.1:1/s3"
    assert invoker.invoke("echo", {}, 20)["pid"] == first["pid"]


def test_what_a_handler_raises_is_its_answer(lambdas: Callable[..., ProcessLambdas]) -> None:
    invoker = lambdas({})
    for name, says in (("fail", "ValueError: no such thing"), ("strange", "TypeError"), ("missing", "AttributeError")):
        with pytest.raises(BackendUnavailable, match=says) as caught:
            invoker.invoke(name, {}, 20)
        assert caught.value.reason == "LAMBDA_FAILED"


def test_a_crashed_handler_is_started_anew(lambdas: Callable[..., ProcessLambdas]) -> None:
    invoker = lambdas({})
    for _ in range(2):
        with pytest.raises(BackendUnavailable, match="ended with status 7"):
            invoker.invoke("crash", {}, 20)


def test_a_handler_is_killed_at_its_deadline(
    lambdas: Callable[..., ProcessLambdas], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gandt_labeling.lambdas.process_lambdas.START_SECONDS", 0.0)
    with pytest.raises(DeadlineExceeded):
        lambdas({}).invoke("hang", {}, 0.2)


def test_unknown_and_not_ready(lambdas: Callable[..., ProcessLambdas]) -> None:
    invoker = lambdas(None)
    assert invoker.knows("echo")
    assert not invoker.knows("other")
    with pytest.raises(NotFound):
        invoker.invoke("other", {}, 1)
    with pytest.raises(BackendUnavailable) as caught:
        invoker.invoke("echo", {}, 1)
    assert caught.value.reason == "LAMBDA_NOT_READY"


def test_closing_ends_a_call_without_calling_it_a_failure(lambdas: Callable[..., ProcessLambdas]) -> None:
    invoker = lambdas({})
    invoker.invoke("echo", {}, 20)
    caught: list[BackendUnavailable] = []

    def wait_for_it() -> None:
        try:
            invoker.invoke("hang", {}, 60)
        except BackendUnavailable as error:
            caught.append(error)

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    while "hang" not in invoker._children:
        pass
    invoker.close()
    thread.join(20)
    assert [error.reason for error in caught] == ["LAMBDA_NOT_READY"]
    with pytest.raises(BackendUnavailable, match="starts or stops"):
        invoker.invoke("echo", {}, 1)
