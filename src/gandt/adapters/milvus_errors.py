# SPDX-License-Identifier: GPL-3.0-or-later
"""What pymilvus raises, as our errors: MilvusException, the raw gRPC errors that it lets through, and socket errors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gandt.domain import disk
from gandt.domain.errors import BackendUnavailable, GandtError, InvalidInput, NotFound, Overloaded, WrongState

NOT_LOADED = 101  # codes of Milvus (merr) and of Milvus Lite
COLLECTION_GONE = (4, 100)
RATE_LIMITED = 8
QUOTAS = (3, 7, 9)  # memory, disk, and writes forbidden by one of them
REFUSED = (6, 1100)  # illegal argument: old and new


@contextmanager
def translated(what: str, where: str, backend: str) -> Iterator[None]:
    """Errors of pymilvus, and the raw gRPC and socket errors that it lets through, as ours."""
    import grpc
    from pymilvus.exceptions import MilvusException

    try:
        yield
    except (MilvusException, grpc.RpcError, OSError) as error:
        raise _error(error, what, where, backend) from error


def is_not_loaded(error: Exception) -> bool:
    """Whether a collection must be loaded before this call can work."""
    return getattr(error, "code", None) == NOT_LOADED


def is_too_large(error: Exception) -> bool:
    """Whether less at once may work: a message or an answer was over a limit."""
    return grpc_code(error) == "RESOURCE_EXHAUSTED" or "maxOutputSize" in _text(error)


def grpc_code(error: BaseException | None) -> str:
    """Name of the gRPC status at the root of an error; "" when there is none."""
    import grpc

    while error is not None:
        code: Any = getattr(error, "code", None)
        code = code() if callable(code) else code
        if isinstance(code, grpc.StatusCode):
            return code.name
        error = error.__cause__ if error.__cause__ is not error else None
    return ""


def _text(error: Exception) -> str:
    details = getattr(error, "details", None)
    return str((details() if callable(details) else "") or getattr(error, "message", "") or error)


def _os_error(error: Exception, text: str) -> OSError:
    """The operating system's error; Milvus Lite, which answers over gRPC, gives it as text."""
    if isinstance(error, OSError):
        return error
    number = next((n for n in (errno.ENOSPC, errno.EDQUOT, errno.EROFS) if os.strerror(n) in text), 0)
    return OSError(number, text)


def _error(error: Exception, what: str, where: str, backend: str) -> GandtError:
    text = (_text(error) or type(error).__name__).splitlines()[0][:300]
    code: Any = getattr(error, "code", None)
    status = grpc_code(error)
    said = f"{backend} at {where} could not {what}: {text}"
    trouble = disk.of_os_error(_os_error(error, text), where)
    if trouble is not None:
        return trouble
    if status in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return WrongState(
            f"{backend} at {where} did not let us {what}: {text}",
            kind="milvus",
            id=where,
            state=status.lower(),
            reason="MILVUS_ACCESS_DENIED",
            fix="set milvus_token to a user of the server who may read, write and create collections",
        )
    if code in COLLECTION_GONE:
        return NotFound(said, kind="collection", id=where, reason="COLLECTION_NOT_FOUND", fix="create it first")
    if code in QUOTAS and backend == "milvus":
        return WrongState(
            said,
            kind="milvus",
            id=where,
            state="over quota",
            reason="MILVUS_QUOTA_EXCEEDED",
            fix="give the server more memory or disk, or delete items, and send the items again",
        )
    if code == RATE_LIMITED and backend == "milvus":
        return Overloaded(said, retry_after_seconds=5.0, reason="MILVUS_RATE_LIMITED", fix="retry later")
    if code in REFUSED or getattr(error, "is_input_error", False):
        return InvalidInput(said, reason="REFUSED_BY_MILVUS")
    return BackendUnavailable(
        said, backend=backend, reason="VECTOR_STORE_FAILED", fix="retry; sending the same items again is safe"
    )
