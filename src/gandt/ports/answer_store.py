# SPDX-License-Identifier: GPL-3.0-or-later
"""The port for answers, labels and workers: answers are written once, labels are made of them again and again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Protocol

from gandt.domain.catalog import KnownLabel, QuarantinedAnswer, StoredLabel, WorkerRecord
from gandt.domain.datasets import Answer, LabelEstimate
from gandt.domain.labeling.rounds import Round, Tally

AnswerKey = tuple[int, str, str]  # number of the job, image, worker


class AnswerStore(Protocol):
    """What workers and experts said, and what came of it."""

    def add_answers(self, campaign_id: str, given: Sequence[Answer]) -> int:
        """Store answers; those that are there already stay as they are. Returns how many were new."""
        ...

    def list_answers(
        self, campaign_id: str, job_name: str = "", after: AnswerKey | None = None, limit: int = 10000
    ) -> list[tuple[AnswerKey, Answer]]:
        """Answers by job (in order of their first answer), image and worker, after a key."""
        ...

    def all_answers(self, campaign_id: str) -> list[Answer]:
        """Every answer of a campaign, in the order of `list_answers`."""
        ...

    def count_answers(self, campaign_id: str, job_name: str = "") -> int:
        """Answers of a campaign, or of one of its jobs."""
        ...

    def add_quarantine(self, entries: Sequence[QuarantinedAnswer]) -> None:
        """Keep answers that could not be understood; the same one is kept once."""
        ...

    def list_quarantine(self, job_names: Sequence[str]) -> list[QuarantinedAnswer]:
        """What was set aside of some jobs."""
        ...

    def tallies(self, round_id: str) -> list[Tally]:
        """How often each image of a round was answered and how often its page failed, in rank order."""
        ...

    def earlier_tallies(self, round_id: str) -> list[Tally]:
        """The same of all rounds before it in its campaign, oldest first; without images that an expert decided."""
        ...

    def list_workers(self, campaign_id: str, after_id: str, limit: int) -> list[WorkerRecord]:
        """Workers of a campaign by id, after an id."""
        ...

    def forget_worker(self, worker_id: str, new_worker_id: str, now: datetime) -> int:
        """Put a new pseudonym in place of a worker's; returns the answers that now stand under it.

        A hash of the old one stays until no open job can bring it back (`drop_forgotten`).
        """
        ...

    def drop_forgotten(self) -> None:
        """Forget the hashes of forgotten workers when no job is open."""
        ...

    def write_labels(
        self,
        round_id: str,
        estimates: Sequence[LabelEstimate],
        known_workers: Sequence[WorkerRecord],
        targets: Collection[str],
        change: Callable[[Round], Round],
        now: datetime,
    ) -> Round:
        """Store what aggregation found and move the round on, in one transaction; an expert's labels stay.

        Args:
            estimates: verdicts on all images with answers.
            known_workers: replace what was known of the campaign's workers.
            targets: labels that count as found.
            change: gives the round's next state.
        """
        ...

    def put_reviews(
        self, campaign_id: str, decisions: Sequence[KnownLabel], reviewer: str, targets: Collection[str], now: datetime
    ) -> None:
        """Store an expert's decisions: they become the labels, and each is kept in the review's own history."""
        ...

    def list_labels(
        self, campaign_id: str, status: str, include_seeds: bool, after_id: str, limit: int
    ) -> list[StoredLabel]:
        """Labels by image id, after an id, with their paths.

        Args:
            status: certain, uncertain, tied, unlabeled; "" takes all.
            include_seeds: seeds without a label of the campaign, too.
        """
        ...

    def count_labels(self, campaign_id: str, status: str, include_seeds: bool) -> int:
        """Labels that `list_labels` would give in all."""
        ...

    def picked_images(self, campaign_id: str, from_pool: bool = False) -> set[str]:
        """Every image that was ever picked in a campaign; with from_pool, before it had a label."""
        ...
