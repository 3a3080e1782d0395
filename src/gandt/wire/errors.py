# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table between domain errors and gRPC status codes, used in both directions.

A server turns an error into a status with google.rpc details: `ErrorInfo` always,
`BadRequest` for a wrong field, `RetryInfo` when waiting helps. A client turns the status
back, so both sides catch the same classes with the same attributes.
"""

from __future__ import annotations

from typing import Any, TypeVar

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from gandt.domain import errors
from gandt.domain.errors import GandtError

M = TypeVar("M")

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata key of the serialized google.rpc.Status."""

CODES: dict[type[GandtError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.OverBudget: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.BackendUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    errors.CorruptData: grpc.StatusCode.DATA_LOSS,
    GandtError: grpc.StatusCode.INTERNAL,
}
"""Each public class once. Two classes share RESOURCE_EXHAUSTED; the class name in ErrorInfo tells them apart."""

# Codes that gRPC itself (or a proxy) answers with, without our details.
_BARE_CODES: dict[grpc.StatusCode, type[GandtError]] = {
    **{code: cls for cls, code in CODES.items() if code is not grpc.StatusCode.RESOURCE_EXHAUSTED},
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Overloaded,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidInput,
    grpc.StatusCode.CANCELLED: errors.BackendUnavailable,
    grpc.StatusCode.UNKNOWN: GandtError,
}
_BY_NAME = {cls.__name__: cls for cls in CODES}
_ATTRIBUTES = ("field", "kind", "id", "state", "backend")

# Bytes. Stock clients take 8 KiB of trailing metadata, and the text travels twice, once percent-encoded.
_MAX_TEXT = 800
_MAX_FACT = 200
_MAX_FACTS = 8


def code_of(error: GandtError) -> grpc.StatusCode:
    """The status code of an error: its class's row, or that of the nearest base class."""
    return CODES[_row(type(error))]


def to_status(error: GandtError, service: str) -> status_pb2.Status:
    """An error as google.rpc.Status with details.

    Args:
        error: what the use case raised.
        service: short name of the raising service, for ErrorInfo's domain `<service>.gandt`.
    """
    cls = _row(type(error))
    facts = {"error": cls.__name__}
    facts |= {name: value for name in _ATTRIBUTES if (value := str(getattr(error, name, "")))}
    if error.fix:
        facts["fix"] = error.fix
    for key, value in list(error.metadata.items())[:_MAX_FACTS]:
        facts.setdefault(key, value)
    status = status_pb2.Status(code=CODES[cls].value[0], message=_cut(error.message, _MAX_TEXT))
    _attach(
        status,
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=f"{service}.gandt",
            metadata={key: _cut(value, _MAX_FACT) for key, value in facts.items()},
        ),
    )
    if isinstance(error, errors.InvalidInput) and error.field:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field, _MAX_FACT), description=_cut(error.message, _MAX_FACT)
        )
        _attach(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(error.retry_after_seconds * 1e9))
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def from_rpc_error(error: Any, service: str) -> GandtError:
    """The domain error behind a failed call.

    Args:
        error: the grpc.RpcError; it is a `grpc.Call` as well, and both typings of grpc disagree on that.
        service: short name of the service that was called, for errors that carry no details.
    """
    code: grpc.StatusCode = error.code()
    text: str = error.details() or ""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            found = from_status(status_pb2.Status.FromString(value))
            if found is not None:
                return found
    return _from_bare_code(code, text, service)


def from_status(status: status_pb2.Status) -> GandtError | None:
    """The domain error in a google.rpc.Status; None when it has no ErrorInfo of ours."""
    info = _detail(status, error_details_pb2.ErrorInfo())
    if info is None or not info.domain.endswith(".gandt"):
        return None
    facts = dict(info.metadata)
    cls = _BY_NAME.get(facts.pop("error", ""), GandtError)
    fix = facts.pop("fix", "")
    given = {name: facts.pop(name) for name in _ATTRIBUTES if name in facts and name in _takes(cls)}
    error = cls(status.message, reason=info.reason, fix=fix, metadata=facts, **given)
    if isinstance(error, errors.Overloaded):
        retry = _detail(status, error_details_pb2.RetryInfo())
        if retry is not None:
            error.retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return error


def _from_bare_code(code: grpc.StatusCode, text: str, service: str) -> GandtError:
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "message larger than max" in text:
        return errors.InvalidInput(
            f"a message to or from {service} is over its size limit: {text}",
            reason="MESSAGE_TOO_LARGE",
            fix="send less in one call, or raise max_message_bytes on the server",
        )
    cls = _BARE_CODES.get(code, GandtError)
    if cls is errors.BackendUnavailable:
        return errors.BackendUnavailable(
            f"the {service} service does not answer: {text or code.name}",
            backend=service,
            fix="see that the service runs, then do the same again: what it has acknowledged is kept",
        )
    if cls is errors.DeadlineExceeded:
        return errors.DeadlineExceeded(f"the {service} service did not answer in time")
    return cls(f"the {service} service answered {code.name}: {text}")


def _row(cls: type[GandtError]) -> type[GandtError]:
    return next(base for base in cls.__mro__ if base in CODES)


def _takes(cls: type[GandtError]) -> frozenset[str]:
    """Which of the attributes the class has, read from a bare instance."""
    return frozenset(name for name in _ATTRIBUTES if hasattr(cls(""), name))


def _attach(status: status_pb2.Status, detail: Any) -> None:
    packed = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)


def _detail(status: status_pb2.Status, empty: M) -> M | None:
    for packed in status.details:
        if packed.Is(empty.DESCRIPTOR):  # type: ignore[attr-defined]
            packed.Unpack(empty)
            return empty
    return None


def _cut(text: str, limit: int) -> str:
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore") + "..."
