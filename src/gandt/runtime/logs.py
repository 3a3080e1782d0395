# SPDX-License-Identifier: GPL-3.0-or-later
"""One line of JSON a log record, on stderr, with the request id and method of the call.

Everything logs through the standard library (`logging.getLogger(__name__)`, facts in
`extra=`), so libraries and services look alike, and a service that runs inside somebody
else's process leaves that process's logging alone.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

from gandt.wire import request_ids


def configure_logging(level: str = "info", format: str = "json", stream: TextIO | None = None) -> None:
    """Sends all log records of this process to stderr. Only for processes that we own.

    Args:
        level: debug, info, warning or error.
        format: json or text.
        stream: somewhere else than stderr.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        _add_request_id,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Any]
    if format == "json":
        # structlog's own dict_tracebacks writes every frame's local variables: tokens and cookies among them.
        traces = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        last = [traces, structlog.processors.JSONRenderer(default=str)]
    else:
        # Plain, because with the rich package installed the default shows local variables too.
        plain = structlog.dev.plain_traceback
        last = [structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last], foreign_pre_chain=shared
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gandt").setLevel(level.upper())
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("gandt_"):
            logging.getLogger(name).setLevel(level.upper())


def _add_request_id(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if request_id := request_ids.CURRENT.get():
        event.setdefault("request_id", request_id)
    return event
