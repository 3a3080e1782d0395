# SPDX-License-Identifier: GPL-3.0-or-later
"""State changes of Ground Truth jobs, as EventBridge puts them on an SQS queue (see lambdas/template.yaml)."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from gandt.domain.errors import BackendUnavailable, PermissionDenied

WAIT_SECONDS = 5  # of one long poll; a stop waits this long at most
MOST_MESSAGES = 10  # SQS gives no more at once
_log = logging.getLogger(__name__)
_DENIED = ("AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "UnrecognizedClientException")


def sqs_client(region: str) -> Any:
    """A boto3 client that reads queues; credentials come from boto3's usual places."""
    import boto3
    from botocore.config import Config

    limits = Config(retries={"mode": "standard", "max_attempts": 3}, connect_timeout=5, read_timeout=WAIT_SECONDS + 10)
    return boto3.client("sqs", region_name=region, config=limits)


class SqsJobEvents:
    """Reads one queue.

    A message is deleted once its job is named to the caller: what it says is asked of Ground Truth anyway. Messages of
    jobs that are not ours, as a queue shared with another deployment has them, are left to the other.

    Args:
        client: boto3's, for `sqs`.
        queue_url: the queue's address.
        job_prefix: how the names of our jobs begin.
    """

    def __init__(self, client: Any, queue_url: str, job_prefix: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self._prefix = job_prefix
        self._closed = threading.Event()

    def wait(self) -> Sequence[str]:
        """See the port."""
        if self._closed.is_set():
            return []
        try:
            answer = self._client.receive_message(
                QueueUrl=self._queue_url, MaxNumberOfMessages=MOST_MESSAGES, WaitTimeSeconds=WAIT_SECONDS
            )
            named = [(_job_of(message.get("Body", "")), message) for message in answer.get("Messages", [])]
            done = [message for job, message in named if not job or job.startswith(self._prefix)]
            if done:
                self._client.delete_message_batch(
                    QueueUrl=self._queue_url,
                    Entries=[{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(done)],
                )
        except (ClientError, BotoCoreError) as error:
            code = error.response.get("Error", {}).get("Code", "") if isinstance(error, ClientError) else ""
            kind = PermissionDenied if code in _DENIED else BackendUnavailable
            raise kind(
                f"queue {self._queue_url} cannot be read: {error}",
                fix="check events_queue_url and the controller's role; jobs are still asked every poll_seconds",
            ) from error
        for job, message in named:
            if not job:
                _log.warning("a message on %s names no labeling job: %.200s", self._queue_url, message.get("Body", ""))
        return [job for job, _ in named if job and job.startswith(self._prefix)]

    def close(self) -> None:
        """See the port."""
        self._closed.set()


def _job_of(body: str) -> str:
    """The job that a message is about; "" for one that is no such event, which nobody waits for.

    The event names the job by its ARN, among `resources`.
    """
    try:
        event = json.loads(body)
    except ValueError:
        return ""
    resources = event.get("resources") if isinstance(event, Mapping) else None
    for arn in resources if isinstance(resources, list) else []:
        if isinstance(arn, str) and ":labeling-job/" in arn:
            return arn.rpartition("/")[2]
    return ""
