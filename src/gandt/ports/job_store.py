# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for the loop's state: campaigns, rounds, labeling jobs and money, with the catalog and the answers.

A method that changes something does so in one durable transaction. Methods that take a `change` read, change and
write under a lock, so that two callers never overwrite each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from gandt.domain.catalog import EmbeddingJob, EmbeddingState, RejectedFile
from gandt.domain.labeling.campaigns import Campaign, CampaignState
from gandt.domain.labeling.jobs import JobState, LabelingJob
from gandt.domain.labeling.rounds import PageGroup, Pick, Round
from gandt.ports.answer_store import AnswerStore
from gandt.ports.catalog_store import CatalogStore
from gandt.ports.draw_store import DrawStore


class CampaignStore(Protocol):
    """Campaigns and their rounds."""

    def create_campaign(self, campaign: Campaign, request_id: str) -> Campaign:
        """Store a campaign; the same request id returns the one that it made.

        Raises:
            AlreadyExists: the request id made a campaign with another spec.
        """
        ...

    def get_campaign(self, campaign_id: str) -> Campaign:
        """A campaign by id; "" means the newest.

        Raises:
            NotFound: there is none.
        """
        ...

    def campaign_version(self, campaign_id: str) -> int:
        """Only the version, for those who wait for a change."""
        ...

    def list_campaigns(self, before_number: int, limit: int) -> list[tuple[int, Campaign]]:
        """Campaigns with their serial numbers, newest first, below a number (0 means from the newest)."""
        ...

    def open_campaigns(self) -> list[str]:
        """Ids of the campaigns that are not final, oldest first."""
        ...

    def change_campaign(
        self, campaign_id: str, change: Callable[[Campaign], Campaign], now: datetime, expected_version: int = 0
    ) -> Campaign:
        """Read, change and write a campaign's state, message, budget and stop rule in one transaction.

        Raises:
            Conflict: the campaign has another version than the expected one (0 is not checked).
        """
        ...

    def resume_state(self, campaign_id: str) -> CampaignState:
        """The state that a paused or ended campaign goes back to."""
        ...

    def create_round(self, new: Round, picked: Sequence[Pick], request_id: str) -> Round:
        """Store a round with its picks in one transaction; the same request id returns the round that it made.

        Raises:
            Conflict: the campaign has a round of that number already.
            WrongState: the campaign's newest round is not final, so the next cannot begin.
        """
        ...

    def add_picks(
        self, round_id: str, picked: Sequence[Pick], change: Callable[[Round], Round], now: datetime
    ) -> Round:
        """Add a part's picks to an open round and change the round, in one transaction.

        Raises:
            WrongState: the round is final.
        """
        ...

    def round_of_request(self, request_id: str) -> Round | None:
        """The round that a request made, with its picks."""
        ...

    def get_round(self, round_id: str, with_picks: bool = False) -> Round:
        """A round by id; "" means the newest round of the newest campaign.

        Raises:
            NotFound: there is none.
        """
        ...

    def newest_round(self, campaign_id: str) -> Round | None:
        """The campaign's round with the highest number."""
        ...

    def list_rounds(self, campaign_id: str, after_number: int, limit: int) -> list[Round]:
        """Rounds by number, after a number."""
        ...

    def change_round(self, round_id: str, change: Callable[[Round], Round], now: datetime) -> Round:
        """Read, change and write a round's state, pending groups and warnings in one transaction."""
        ...


class LabelingStore(Protocol):
    """Labeling jobs and the money that they take."""

    def record_intent(
        self, job: LabelingJob, group: PageGroup, pages: Mapping[str, str], request_id: str
    ) -> LabelingJob:
        """Write down a job, its pages and its reservation, and take its group off the round; one transaction.

        Args:
            job: in state INTENT; `job.reserved` is reserved.
            group: what the job is about; must be the round's first pending group.
            pages: page of each image, gold included.
            request_id: "" or an id that returns the same job when it comes again.

        Raises:
            OverBudget: the reservation does not fit into the campaign's money; nothing is written.
            WrongState: the group is not the round's first pending one (any more).
        """
        ...

    def rename_intent(self, job_name: str, renamed: LabelingJob, now: datetime) -> LabelingJob:
        """Give an intent another name and request (its name was taken); pages and reservation go along."""
        ...

    def has_job(self, job_name: str) -> bool:
        """Whether a job of that name was ever written down."""
        ...

    def get_job(self, job_name: str) -> LabelingJob:
        """A job by name.

        Raises:
            NotFound: there is none.
        """
        ...

    def job_of_request(self, request_id: str) -> LabelingJob | None:
        """The job that a request made."""
        ...

    def job_version(self, job_name: str) -> int:
        """Only the version, for those who wait for a change."""
        ...

    def list_jobs(
        self, campaign_id: str, round_id: str = "", after_sequence: int = 0, limit: int = 1000, only_open: bool = False
    ) -> list[LabelingJob]:
        """Jobs of a campaign, or of one round, oldest first."""
        ...

    def count_jobs(self) -> dict[JobState, int]:
        """Jobs by state, for the metrics."""
        ...

    def oldest_open_job(self) -> datetime | None:
        """When the oldest job that is not final was made."""
        ...

    def job_pages(self, job_name: str) -> dict[str, str]:
        """Page of each image of a job."""
        ...

    def asked_images(self, campaign_id: str) -> set[str]:
        """Every image that any job of a campaign asked about, gold included."""
        ...

    def change_job(
        self, job_name: str, change: Callable[[LabelingJob], LabelingJob], now: datetime, quiet: bool = False
    ) -> LabelingJob:
        """Read, change and write a job in one transaction; a final job stays as it is.

        Args:
            quiet: the change is of no interest to watchers (a retry time).
        """
        ...

    def settle_job(self, settled: LabelingJob, failed_images: Mapping[str, int], now: datetime) -> LabelingJob:
        """End a job: its real cost instead of its reservation, its counts, and the images whose page failed.

        Doing it again changes nothing: a job is settled once.

        Args:
            failed_images: how many failures each counts for.
        """
        ...

    def refuse_job(self, job_name: str, message: str, group: PageGroup, now: datetime) -> LabelingJob:
        """End a job that never began: its money is released and its group waits again; its request id is free again."""
        ...


class EmbeddingStore(Protocol):
    """Embedding jobs, and who leads."""

    def close(self) -> None:
        """Close all connections and give the lease back."""
        ...

    def take_lease(self, name: str, holder: str, now: datetime, seconds: float) -> bool:
        """Take or renew a lease; False while another holder has it.

        On one machine it is a lock on a file beside the database, which ends with its process, however that ends;
        in PostgreSQL it is a row that runs out after `seconds`.
        """
        ...

    def drop_lease(self, name: str, holder: str) -> None:
        """Give a lease back at once, so that another holder need not wait."""
        ...

    def create_embedding_job(self, job: EmbeddingJob, request_id: str) -> EmbeddingJob:
        """Store an embedding job; the same request id returns the one that it made."""
        ...

    def get_embedding_job(self, embedding_job_id: str) -> EmbeddingJob:
        """An embedding job by id.

        Raises:
            NotFound: there is none.
        """
        ...

    def running_embedding_jobs(self) -> list[str]:
        """Ids of the embedding jobs that are at work or were when the process ended, oldest first."""
        ...

    def advance_embedding_job(
        self, embedding_job_id: str, embedded: int, rejected: Sequence[tuple[str, RejectedFile]]
    ) -> None:
        """Add images that were embedded, and images (by id) that could not be."""
        ...

    def end_embedding_job(self, embedding_job_id: str, state: EmbeddingState, message: str) -> None:
        """Set how an embedding job ended, or that it runs again."""
        ...


class JobStore(CatalogStore, CampaignStore, DrawStore, LabelingStore, AnswerStore, EmbeddingStore, Protocol):
    """All that the job controller remembers."""

    def close(self) -> None:
        """Close the connections."""
        ...
