# SPDX-License-Identifier: GPL-3.0-or-later
"""The job controller as one object: its use cases by subject, and the loop that drives campaigns."""

from __future__ import annotations

from gandt.domain.labeling.outcomes import Exported
from gandt.ports.job_events import JobEvents
from gandt_jobcontroller.service.answers import Answers
from gandt_jobcontroller.service.campaigns import Campaigns
from gandt_jobcontroller.service.catalog import Catalog
from gandt_jobcontroller.service.embedding import Embedding
from gandt_jobcontroller.service.exporting import export_labels
from gandt_jobcontroller.service.listener import Listener
from gandt_jobcontroller.service.loop import Loop
from gandt_jobcontroller.service.parts import Parts
from gandt_jobcontroller.service.rounds import Rounds


class JobController:
    """All use cases over one set of ports.

    Args:
        holder: this process' name in the lease.
        poll_seconds: time between two questions about a running labeling job.
        dataset: begins the names of vector collections.
        events: pushed news of labeling jobs; None where there is none, and jobs are only asked.
    """

    def __init__(
        self, parts: Parts, holder: str, poll_seconds: float, dataset: str, events: JobEvents | None = None
    ) -> None:
        self._parts = parts
        self.loop = Loop(parts, holder, poll_seconds)
        self._listener = Listener(events, self.loop.poll_now) if events is not None else None
        self.catalog = Catalog(parts)
        self.campaigns = Campaigns(parts, self.loop.wake)
        self.rounds = Rounds(parts, self.loop.wake)
        self.answers = Answers(parts)
        self.embedding = Embedding(parts, dataset)

    @property
    def work_url(self) -> str:
        """Page where people label; "" when the backend has none."""
        return self._parts.work_url()

    def export_labels(self, campaign_id: str, form: str, uri: str, include_uncertain: bool) -> Exported:
        """Write the labeled dataset; see `export_labels`."""
        return export_labels(self._parts, campaign_id, form, uri, include_uncertain)

    def start(self) -> None:
        """Go on with what was under way, and drive campaigns from now on."""
        self.embedding.resume()
        self.loop.start()
        if self._listener is not None:
            self._listener.start()

    def close(self) -> None:
        """End the loop and background work; what is left goes on with the next start."""
        if self._listener is not None:
            self._listener.close()
        self.loop.close()
        self._parts.embedding_jobs.close()
        self._parts.store.close()
