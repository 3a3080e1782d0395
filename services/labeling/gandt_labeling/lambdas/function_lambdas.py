# SPDX-License-Identifier: GPL-3.0-or-later
"""Lambda handlers as plain functions in this process: for tests, and for handlers that need no S3."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from gandt.domain.errors import BackendUnavailable, NotFound

Handler = Callable[[dict[str, Any], object], Any]


class FunctionLambdas:
    """Calls handlers directly; deadlines are not enforced.

    Args:
        handlers: by ARN.
    """

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = dict(handlers)

    def knows(self, arn: str) -> bool:
        """See `LambdaInvoker.knows`."""
        return arn in self._handlers

    def invoke(self, arn: str, event: Mapping[str, Any], timeout_seconds: float) -> Any:
        """See `LambdaInvoker.invoke`."""
        del timeout_seconds
        handler = self._handlers.get(arn)
        if handler is None:
            raise NotFound(f"no handler is configured for the Lambda {arn}", kind="lambda", id=arn)
        try:
            # Through JSON both ways, as a real invocation: a handler can keep nothing of the caller's.
            return json.loads(json.dumps(handler(json.loads(json.dumps(event)), None)))
        except Exception as error:
            raise BackendUnavailable(f"{type(error).__name__}: {error}", backend=arn, reason="LAMBDA_FAILED") from error
