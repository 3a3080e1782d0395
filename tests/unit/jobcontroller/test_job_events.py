# SPDX-License-Identifier: GPL-3.0-or-later
"""News of labeling jobs: read from a queue, and answered by asking at once."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from gandt_jobcontroller.service.listener import Listener

from gandt.adapters.sqs_job_events import MOST_MESSAGES, WAIT_SECONDS, SqsJobEvents
from gandt.domain.errors import BackendUnavailable, PermissionDenied

QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/jobs"
ASKED = {"QueueUrl": QUEUE, "MaxNumberOfMessages": MOST_MESSAGES, "WaitTimeSeconds": WAIT_SECONDS}


def event(job: str) -> str:
    """As EventBridge sends it: the name is only in the ARN."""
    return json.dumps(
        {
            "source": "aws.sagemaker",
            "detail-type": "SageMaker Ground Truth Labeling Job State Change",
            "resources": [f"arn:aws:sagemaker:eu-west-1:111122223333:labeling-job/{job}"],
            "detail": {"LabelingJobStatus": "Completed"},
        }
    )


@pytest.fixture
def sqs() -> Iterator[tuple[Any, Stubber]]:
    client = boto3.client("sqs", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="y")
    with Stubber(client) as stub:
        yield client, stub
        stub.assert_no_pending_responses()


def message(number: int, body: str) -> dict[str, str]:
    return {"MessageId": str(number), "ReceiptHandle": f"receipt-{number}", "Body": body}


def test_our_jobs_are_named_and_other_deployments_messages_stay(sqs: tuple[Any, Stubber]) -> None:
    client, stub = sqs
    bodies = [event("gt-cats-r1-0123456789ab"), event("other-dogs-r1-0123456789ab"), "no event", "[1]"]
    stub.add_response("receive_message", {"Messages": [message(n, body) for n, body in enumerate(bodies)]}, ASKED)
    done = [{"Id": str(i), "ReceiptHandle": f"receipt-{n}"} for i, n in enumerate((0, 2, 3))]
    stub.add_response("delete_message_batch", {"Successful": [], "Failed": []}, {"QueueUrl": QUEUE, "Entries": done})
    assert SqsJobEvents(client, QUEUE, "gt-").wait() == ["gt-cats-r1-0123456789ab"]


def test_an_empty_queue_has_no_news(sqs: tuple[Any, Stubber]) -> None:
    client, stub = sqs
    stub.add_response("receive_message", {}, ASKED)
    events = SqsJobEvents(client, QUEUE, "gt-")
    assert events.wait() == []
    events.close()
    assert events.wait() == []  # asks no more


@pytest.mark.parametrize(
    ("code", "kind"),
    [("AccessDenied", PermissionDenied), ("AWS.SimpleQueueService.NonExistentQueue", BackendUnavailable)],
)
def test_a_queue_that_cannot_be_read_is_named(sqs: tuple[Any, Stubber], code: str, kind: type[Exception]) -> None:
    client, stub = sqs
    stub.add_client_error("receive_message", code, "no", 400, expected_params=ASKED)
    with pytest.raises(kind, match=r"sqs\.eu-west-1"):
        SqsJobEvents(client, QUEUE, "gt-").wait()


class Scripted:
    """News from a script: names, or an error to raise."""

    def __init__(self) -> None:
        self.script: queue.SimpleQueue[Sequence[str] | BackendUnavailable] = queue.SimpleQueue()
        self.closed = threading.Event()

    def wait(self) -> Sequence[str]:
        found = self.script.get()
        if isinstance(found, BackendUnavailable):
            raise found
        return found

    def close(self) -> None:
        self.closed.set()
        self.script.put([])


def test_news_is_passed_on_and_silence_is_not() -> None:
    events, heard = Scripted(), queue.SimpleQueue[str]()
    listener = Listener(events, lambda: heard.put("news"))
    listener.start()
    for found in ([], ["gt-a"], [], ["gt-b", "gt-c"]):
        events.script.put(found)
    assert [heard.get(timeout=10), heard.get(timeout=10)] == ["news", "news"]
    listener.close()
    assert events.closed.is_set()
    assert heard.empty()


def test_the_listener_can_be_closed_while_it_waits_after_trouble() -> None:
    events = Scripted()
    listener = Listener(events, lambda: None)
    listener.start()
    events.script.put(BackendUnavailable("gone"))
    listener.close()
