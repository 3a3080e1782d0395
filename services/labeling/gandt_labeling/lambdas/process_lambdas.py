# SPDX-License-Identifier: GPL-3.0-or-later
"""Lambda handlers in processes of their own, one a function, as Lambda runs them.

A handler is a customer's code: it uses `boto3.client("s3")` with whatever the environment says, may print, hang or
crash. A child process gets its own environment (AWS_ENDPOINT_URL_S3 points to our `/s3`), can be killed at its
deadline, and takes nothing of the service down with it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from gandt.domain.errors import BackendUnavailable, DeadlineExceeded, NotFound

Environment = Callable[[], Mapping[str, str] | None]
"""Variables for the handlers beside our own; None while they are not known yet (the port is not bound)."""

START_SECONDS = 30.0  # imports of a cold handler, boto3 among them, come on top of the caller's deadline


class ProcessLambdas:
    """Runs `module:function` handlers.

    Args:
        handlers: `module:function` by ARN, e.g. `gandt_lambdas.pre_annotation:lambda_handler`.
        environment: see `Environment`.
    """

    def __init__(self, handlers: Mapping[str, str], environment: Environment) -> None:
        self._handlers = dict(handlers)
        self._environment = environment
        self._children: dict[str, _Child] = {}
        self._lock = threading.Lock()
        self._closed = False

    def knows(self, arn: str) -> bool:
        """See `LambdaInvoker.knows`."""
        return arn in self._handlers

    def invoke(self, arn: str, event: Mapping[str, Any], timeout_seconds: float) -> Any:
        """See `LambdaInvoker.invoke`."""
        if arn not in self._handlers:
            raise NotFound(
                f"no handler is configured for the Lambda {arn}",
                kind="lambda",
                id=arn,
                fix="add it to GANDT_LABELING__LAMBDAS",
            )
        try:
            answer = self._child(arn).call(event, timeout_seconds)
        except (BackendUnavailable, DeadlineExceeded) as error:
            if self._closed:  # we ended the handler, it did not fail
                raise _not_ready(arn) from error
            raise
        if "error" in answer:
            raise BackendUnavailable(str(answer["error"]), backend=arn, reason="LAMBDA_FAILED")
        return answer.get("result")

    def close(self) -> None:
        """End all handler processes, and the calls that wait for them (LAMBDA_NOT_READY)."""
        self._closed = True
        with self._lock:
            for child in self._children.values():
                child.close()
            self._children.clear()

    def _child(self, arn: str) -> _Child:
        with self._lock:
            child = self._children.get(arn)
            if child is None or not child.alive:
                environment = None if self._closed else self._environment()
                if environment is None:
                    raise _not_ready(arn)
                child = self._children[arn] = _Child(arn, self._handlers[arn], environment)
            return child


def _not_ready(arn: str) -> BackendUnavailable:
    return BackendUnavailable("the service starts or stops; ask again", backend=arn, reason="LAMBDA_NOT_READY")


class _Child:
    def __init__(self, arn: str, target: str, environment: Mapping[str, str]) -> None:
        self._arn = arn
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._warm = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gandt_labeling.lambdas.child", target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._reader = threading.Thread(target=self._read, name=f"lambda-{target}", daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def call(self, event: Mapping[str, Any], timeout_seconds: float) -> dict[str, Any]:
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps(event).encode() + b"\n")
                self._process.stdin.flush()
                line = self._answers.get(timeout=timeout_seconds + (0.0 if self._warm else START_SECONDS))
            except queue.Empty as error:
                self.close()
                raise DeadlineExceeded(
                    f"the Lambda {self._arn} did not answer within {timeout_seconds:g} s", reason="LAMBDA_TIMEOUT"
                ) from error
            except BrokenPipeError as error:
                raise self._crashed() from error
            if not line:
                raise self._crashed()
            self._warm = True
            answer: dict[str, Any] = json.loads(line)
            return answer

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:  # an event that the killed child never read
                    continue

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def _crashed(self) -> BackendUnavailable:
        self.close()
        return BackendUnavailable(
            f"the handler's process ended with status {self._process.returncode}; its log says why",
            backend=self._arn,
            reason="LAMBDA_FAILED",
        )
