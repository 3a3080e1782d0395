# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for who gets pages labeled: Ground Truth, or our labeling service, which speaks the same API.

A name is the only key of idempotency: it lives for ever, ignores case, and that of a failed or stopped job cannot be
used again.
"""

from __future__ import annotations

from typing import Protocol

from gandt.domain.labeling.jobs import BackendStatus, JobRequest


class LabelingBackend(Protocol):
    """Starts, describes and stops labeling jobs."""

    def check(self, request: JobRequest) -> None:
        """Check a request against the service's own rules, before anything is written down.

        Raises:
            InvalidInput: the service would refuse it; all breaches are named.
        """
        ...

    def create(self, request: JobRequest) -> str:
        """Start a job; returns its ARN.

        Raises:
            AlreadyExists: the name is taken - by somebody else, or by an earlier call whose answer was lost.
            InvalidInput, PermissionDenied, Unauthenticated: refused; the job does not exist.
            Overloaded: throttled (reason THROTTLED) or above a quota (reason QUOTA_EXCEEDED); the job does not exist.
            BackendUnavailable: no answer; the job may exist.
        """
        ...

    def describe(self, job_name: str) -> BackendStatus | None:
        """How far a job is; None when there is none of that name (yet).

        Raises:
            Overloaded, BackendUnavailable, PermissionDenied, Unauthenticated: no answer now.
        """
        ...

    def stop(self, job_name: str) -> None:
        """Ask for a job's end; no error when it has ended or does not exist.

        Raises:
            Overloaded, BackendUnavailable, PermissionDenied, Unauthenticated: no answer now.
        """
        ...
