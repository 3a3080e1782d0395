# SPDX-License-Identifier: GPL-3.0-or-later
"""Every error that G&T raises on purpose.

    GandtError
    |- InvalidInput(field)            the request can never work
    |- NotFound(kind, id)
    |- AlreadyExists(kind, id)        same id, other content
    |- WrongState(kind, id, state)    not now; works after a change
    |- Conflict(kind, id)             lost a version check; read again
    |- OverBudget                     money
    |- Overloaded(retry_after_seconds)
    |- Unauthenticated
    |- PermissionDenied
    |- BackendUnavailable(backend)    a store or service does not answer; retry
    |- DeadlineExceeded
    |- Unimplemented(what)            part of the contract, not built yet
    `- CorruptData(kind, id)          our own store holds something broken

An error carries its facts as attributes, a stable `reason` in UPPER_SNAKE (the same in
the CLI, gRPC `ErrorInfo.reason`, logs and docs) and, where there is one, the next step
as `fix`. The wire room maps classes to gRPC codes; nothing here knows about them.
"""

from __future__ import annotations


class GandtError(Exception):
    """Base of all errors that callers may catch.

    Args:
        message: one sentence: which object, what is wrong, why.
        reason: stable name of the cause; the class has a default.
        fix: what to do next, as a command or a short sentence; "" when there is nothing.
        metadata: small facts for machines, text to text.
    """

    default_reason = "INTERNAL"

    def __init__(
        self, message: str, *, reason: str = "", fix: str = "", metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.fix = fix
        self.metadata = dict(metadata or {})

    def __str__(self) -> str:
        return f"{self.message}; {self.fix}" if self.fix else self.message


class InvalidInput(GandtError):
    """The request can never work as it is. `field` names the part that is wrong."""

    default_reason = "INVALID_INPUT"

    def __init__(
        self, message: str, *, field: str = "", reason: str = "", fix: str = "", metadata: dict[str, str] | None = None
    ) -> None:
        super().__init__(message, reason=reason, fix=fix, metadata=metadata)
        self.field = field


class _AboutObject(GandtError):
    """An error about one object, named by kind and id."""

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        id: str = "",
        reason: str = "",
        fix: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix, metadata=metadata)
        self.kind = kind
        self.id = id


class NotFound(_AboutObject):
    """No object of that kind has that id."""

    default_reason = "NOT_FOUND"


class AlreadyExists(_AboutObject):
    """The id is taken by other content; the same content would have succeeded."""

    default_reason = "ALREADY_EXISTS"


class WrongState(_AboutObject):
    """Not possible in the object's present `state`; possible after a change."""

    default_reason = "WRONG_STATE"

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        id: str = "",
        state: str = "",
        reason: str = "",
        fix: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, kind=kind, id=id, reason=reason, fix=fix, metadata=metadata)
        self.state = state


class Conflict(_AboutObject):
    """Somebody else changed the object first; read it again, then retry."""

    default_reason = "CONFLICT"


class OverBudget(GandtError):
    """Doing this would spend more than the budget allows. Nothing was spent."""

    default_reason = "OVER_BUDGET"


class Overloaded(GandtError):
    """A queue is full. Retry after `retry_after_seconds`."""

    default_reason = "OVERLOADED"

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float = 1.0,
        reason: str = "",
        fix: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix, metadata=metadata)
        self.retry_after_seconds = retry_after_seconds


class Unauthenticated(GandtError):
    """The caller gave no token, or a wrong one."""

    default_reason = "UNAUTHENTICATED"


class PermissionDenied(GandtError):
    """The caller is known and may not do this."""

    default_reason = "PERMISSION_DENIED"


class BackendUnavailable(GandtError):
    """A store or service that we depend on does not answer. Safe to retry with backoff."""

    default_reason = "BACKEND_UNAVAILABLE"

    def __init__(
        self,
        message: str,
        *,
        backend: str = "",
        reason: str = "",
        fix: str = "",
        metadata: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix, metadata=metadata)
        self.backend = backend


class DeadlineExceeded(GandtError):
    """No time is left for the call; checked before expensive steps."""

    default_reason = "DEADLINE_EXCEEDED"


class Unimplemented(GandtError):
    """The contract names this, and it is not built yet."""

    default_reason = "UNIMPLEMENTED"


class CorruptData(_AboutObject):
    """A checksum or a format is broken in our own store."""

    default_reason = "CORRUPT_DATA"
