# SPDX-License-Identifier: GPL-3.0-or-later
"""What the labeling service needs from outside besides bytes, time and metrics: Lambdas and rendered pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from gandt.domain.catalog import StoredLabel, WorkerRecord
from gandt.domain.labeling.campaigns import Campaign
from gandt.domain.labeling.outcomes import GivenLabel, Imported
from gandt.domain.labeling.rounds import Round
from gandt.ports.meter import Metric

SignMedia = Callable[[str], str]
"""An S3 URI in, a short-lived URL of its bytes out."""


class LambdaInvoker(Protocol):
    """Calls the pre- and post-annotation Lambda handlers by ARN."""

    def knows(self, arn: str) -> bool:
        """Whether a handler is configured for this ARN."""
        ...

    def invoke(self, arn: str, event: Mapping[str, Any], timeout_seconds: float) -> Any:
        """The handler's answer, as JSON data.

        Raises:
            NotFound: no handler is configured for the ARN.
            BackendUnavailable: the handler raised (reason LAMBDA_FAILED, the text names its error), or it cannot
                be called yet (reason LAMBDA_NOT_READY; asking again is free).
            DeadlineExceeded: no answer within `timeout_seconds`.
        """
        ...


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """One page to render for one lease.

    Attributes:
        template: the Liquid source.
        task_input: JSON data that becomes `task.input`.
        lease_id: goes back with every message of the page.
        portal: origin of the portal, `http://host:port`; the page posts its messages to it and to nobody else.
        sign: turns S3 URIs into URLs for this worker.
        ahead: nobody sees the page yet: it must not take the keyboard before it is shown.
    """

    template: str
    task_input: Any
    lease_id: str
    portal: str
    sign: SignMedia
    ahead: bool = False


class PageRenderer(Protocol):
    """Turns a customer's Liquid template into a page."""

    def check(self, template: str) -> None:
        """Parse only.

        Raises:
            InvalidInput: the template's syntax is wrong; the text names the line.
        """
        ...

    def preview(self, template: str, task_input: Any) -> str:
        """What the template makes of a task, without anything of ours around it; S3 URIs stay as they are.

        Raises:
            InvalidInput: the template is wrong, fails on this input, or exceeds a limit.
        """
        ...

    def render(self, request: FrameRequest, nonce: str) -> str:
        """The page's HTML, with crowd elements and known libraries from our own origin.

        Raises:
            InvalidInput: the template fails on this input, or exceeds a limit.
        """
        ...


class Controller(Protocol):
    """What the operator's page asks of the job controller; `gandt.client.jobcontroller` is one."""

    def list_campaigns(self) -> Iterator[Campaign]:
        """All campaigns, newest first."""
        ...

    def get_campaign(self, campaign_id: str = "") -> Campaign:
        """A campaign, the newest for "". Raises NotFound."""
        ...

    def list_rounds(self, campaign_id: str = "") -> Iterator[Round]:
        """A campaign's rounds in order."""
        ...

    def list_labels(self, campaign_id: str = "") -> Iterator[StoredLabel]:
        """A campaign's labels by image id."""
        ...

    def list_workers(self, campaign_id: str = "") -> Iterator[WorkerRecord]:
        """A campaign's workers, with their accuracy on gold."""
        ...

    def update_campaign(self, campaign_id: str, paused: bool | None = None) -> Campaign:
        """Pause or resume. Raises WrongState when it has ended."""
        ...

    def review_labels(self, reviews: Sequence[GivenLabel], reviewer: str, campaign_id: str = "") -> Imported:
        """Record an expert's decisions."""
        ...


METRICS = (
    Metric("gandt_labeling_tasks", "gauge", "Tasks of jobs that are not finished, by state.", ("state",)),
    Metric("gandt_labeling_leases", "gauge", "Tasks that workers hold now."),
    Metric("gandt_labeling_answers_total", "counter", "Submits, by what became of them.", ("result",)),
    Metric("gandt_labeling_active_workers", "gauge", "Workers seen during the last ten minutes."),
    Metric(
        "gandt_labeling_answer_seconds",
        "histogram",
        "Active seconds a worker spent on a submitted task, as the page measured them.",
        (),
        (1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1800.0),
    ),
)
