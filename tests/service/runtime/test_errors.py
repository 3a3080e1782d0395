# SPDX-License-Identifier: GPL-3.0-or-later
"""Every row of the error table over real gRPC, and the statuses that gRPC itself gives."""

from __future__ import annotations

import logging
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from gandt.client.connection import connect
from gandt.domain import errors
from gandt.domain.errors import GandtError
from gandt.wire.errors import CODES, DETAILS_KEY, from_rpc_error

FACTS: dict[type[GandtError], dict[str, Any]] = {
    errors.InvalidInput: {"field": "trim"},
    errors.NotFound: {"kind": "image", "id": "3f2a"},
    errors.AlreadyExists: {"kind": "round", "id": "r1"},
    errors.WrongState: {"kind": "round", "id": "r1", "state": "LABELING"},
    errors.Conflict: {"kind": "round", "id": "r1"},
    errors.Overloaded: {"retry_after_seconds": 2.5},
    errors.BackendUnavailable: {"backend": "milvus"},
    errors.CorruptData: {"kind": "shard", "id": "s1"},
}


@pytest.mark.parametrize("cls", CODES, ids=lambda cls: cls.__name__)
def test_each_class_survives_the_wire(echo: Any, cls: type[GandtError]) -> None:
    sent = cls("it is so", reason="MADE_UP", fix="do that", metadata={"a": "b"}, **FACTS.get(cls, {}))

    def fail() -> None:
        raise sent

    echo.service.raises = fail
    with pytest.raises(GandtError) as caught:
        echo.call("Fail")
    got = caught.value
    assert type(got) is cls
    assert vars(got) == vars(sent)
    cause = got.__cause__
    assert isinstance(cause, grpc.RpcError)
    assert cause.code() is CODES[cls]


def test_details_are_those_of_google_rpc(echo: Any) -> None:
    def fail() -> None:
        raise errors.InvalidInput("trim is 0.7, it must be below 0.5", field="trim", reason="BAD_TRIM")

    echo.service.raises = fail
    with pytest.raises(errors.InvalidInput) as caught:
        echo.call("Fail")
    trailers = dict(caught.value.__cause__.trailing_metadata())  # type: ignore[union-attr]
    status = status_pb2.Status.FromString(trailers[DETAILS_KEY])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.reason, info.domain) == ("BAD_TRIM", "echo.gandt")
    assert bad.field_violations[0].field == "trim"


def test_a_bug_is_hidden_and_logged(echo: Any, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ValueError("the secret")

    echo.service.raises = fail
    with caplog.at_level(logging.ERROR), pytest.raises(GandtError) as caught:
        echo.call("Fail")
    assert caught.value.reason == "INTERNAL"
    assert "secret" not in str(caught.value)
    record = next(record for record in caplog.records if record.exc_info)
    assert record.trace_id == caught.value.metadata["trace_id"]  # type: ignore[attr-defined]
    assert "the secret" in str(record.exc_info)


def test_errors_of_a_stream_come_after_its_responses(echo: Any) -> None:
    with pytest.raises(GandtError):
        list(echo.stream("Count", b"no number"))


def test_a_long_text_fits_into_the_trailers(echo: Any) -> None:
    def fail() -> None:
        raise errors.InvalidInput("é" * 20_000, field="f" * 5_000, metadata={f"k{i}": "v" * 999 for i in range(50)})

    echo.service.raises = fail
    with pytest.raises(errors.InvalidInput) as caught:
        echo.call("Fail")
    assert caught.value.message.startswith("éé")


def test_an_unknown_method_is_unimplemented(echo: Any) -> None:
    with pytest.raises(errors.Unimplemented):
        echo.call("Nothing")


@pytest.mark.parametrize(
    ("code", "text", "cls"),
    [
        (grpc.StatusCode.UNAVAILABLE, "connection refused", errors.BackendUnavailable),
        (grpc.StatusCode.CANCELLED, "", errors.BackendUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota", errors.Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (5 vs. 4)", errors.InvalidInput),
        (grpc.StatusCode.UNKNOWN, "odd", GandtError),
        (grpc.StatusCode.OUT_OF_RANGE, "odd", errors.InvalidInput),
    ],
)
def test_a_status_without_details(code: grpc.StatusCode, text: str, cls: type[GandtError]) -> None:
    class Bare:
        def code(self) -> grpc.StatusCode:
            return code

        def details(self) -> str:
            return text

        def trailing_metadata(self) -> None:
            return None

    assert type(from_rpc_error(Bare(), "embedding")) is cls


def test_a_server_that_is_not_there() -> None:
    with connect("127.0.0.1:1", service="selection", connect_seconds=0.3) as channel:
        call = channel.unary_unary("/x/Y")
        with pytest.raises(errors.BackendUnavailable) as caught:
            call(b"")
    assert caught.value.backend == "selection"
    assert caught.value.reason == "UNREACHABLE"
    assert "gandt serve" in caught.value.fix


@pytest.mark.parametrize("name", ["Check", "Watch"])
def test_bytes_that_are_no_message_are_the_callers_mistake(
    echo: Any, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = f"/grpc.health.v1.Health/{name}"
    with grpc.insecure_channel(echo.addresses.service) as channel:
        call: Any = (channel.unary_unary if name == "Check" else channel.unary_stream)(path)
        with pytest.raises(grpc.RpcError) as caught:
            list(call(b"\xff\xff"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]
