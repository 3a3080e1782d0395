# SPDX-License-Identifier: GPL-3.0-or-later
"""What the use cases work with, handed to each of them as one record."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from gandt.ports.clock import Clock
from gandt.ports.embedding_jobs import EmbeddingJobs
from gandt.ports.image_inspector import ImageInspector
from gandt.ports.job_store import JobStore
from gandt.ports.labeling_backend import LabelingBackend
from gandt.ports.meter import Meter, Metric
from gandt.ports.object_store import ObjectStore
from gandt_jobcontroller.service.peers import Peers
from gandt_jobcontroller.service.places import Places
from gandt_jobcontroller.service.troubles import Troubles

COLLECTION = "collection"  # the fact that names the collection in use; an embedding job that has finished sets it
METRICS = (
    Metric("gandt_jobs", "gauge", "Labeling jobs by state.", ("state",)),
    Metric("gandt_job_age_seconds", "gauge", "Age of the oldest labeling job that is not settled, in seconds."),
    Metric("gandt_budget_limit", "gauge", "Budget of the newest campaign, in US dollars."),
    Metric("gandt_budget_reserved", "gauge", "Held for running labeling jobs of the newest campaign, in US dollars."),
    Metric("gandt_budget_spent", "gauge", "Spent by the newest campaign, in US dollars."),
)


def _go_on(_name: str) -> None:
    return None


@dataclass(frozen=True)
class Parts:
    """Ports and peers of the controller.

    Attributes:
        template: gives the page template's bytes.
        work_url: gives the page where people label; "" when the backend has none.
        new_id: gives a fresh id that starts with a prefix.
        step: held while a step of any campaign is taken, so that a call and the loop never take the same one.
        troubles: what campaigns wait for that somebody has to mend.
        checkpoint: called with a name between a step's effects; tests stop the controller there.
    """

    store: JobStore
    objects: ObjectStore
    backend: LabelingBackend
    peers: Peers
    inspector: ImageInspector
    embedding_jobs: EmbeddingJobs
    places: Places
    clock: Clock
    meter: Meter
    template: Callable[[], bytes]
    work_url: Callable[[], str]
    new_id: Callable[[str], str]
    step: threading.RLock = field(default_factory=threading.RLock)
    troubles: Troubles = field(default_factory=Troubles)
    checkpoint: Callable[[str], None] = _go_on
