# SPDX-License-Identifier: GPL-3.0-or-later
"""Use cases around answers and people: lists, answers collected elsewhere, experts' decisions, and forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gandt.domain.catalog import KnownLabel, WorkerRecord
from gandt.domain.datasets import Answer, AnswerState
from gandt.domain.errors import GandtError, InvalidInput, NotFound
from gandt.domain.labeling.outcomes import GivenLabel, Imported, RefusedLabel
from gandt.domain.paging import key_of, page_size, text_of, token_after
from gandt.domain.vectors import check_id
from gandt_jobcontroller.service.naming import check_space, checked_labels, resolve
from gandt_jobcontroller.service.parts import Parts

IMPORTED_JOB = "imported"


class Answers:
    """What workers and experts say."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def list_answers(self, campaign_id: str, job_name: str, size: int, token: str) -> tuple[list[Answer], str, int]:
        """A page of answers by job, image and worker, the next token, and how many there are in all."""
        limit = page_size(size, 1000, 10_000)
        campaign = self._parts.store.get_campaign(campaign_id)
        listing = f"answers:{campaign.campaign_id}:{job_name}"
        key = key_of(token, listing, int, str, str)
        after = (key[0], key[1], key[2]) if key else None
        rows = self._parts.store.list_answers(campaign.campaign_id, job_name, after, limit)
        total = self._parts.store.count_answers(campaign.campaign_id, job_name)
        return [answer for _, answer in rows], token_after(listing, rows[-1][0]) if len(rows) == limit else "", total

    def import_answers(self, campaign_id: str, given: Sequence[Answer]) -> Imported:
        """Store answers that were collected elsewhere; `image_id` may be an id, URI or path. A bad one fails alone."""
        campaign = self._parts.store.get_campaign(campaign_id)
        space = campaign.spec.space
        taken: list[Answer] = []
        rejected: list[RefusedLabel] = []
        resolved = resolve(self._parts.store, [answer.image_id for answer in given])
        for index, (answer, found) in enumerate(zip(given, resolved, strict=True)):
            labels = checked_labels(answer.labels, space.multi_label, may_be_empty=True)
            error = _first_error(found, labels)
            if error is None and isinstance(labels, tuple):
                error = check_space(labels, space.classes) or _worker_error(answer.worker_id)
            if error is not None:
                rejected.append(RefusedLabel(index, answer.image_id, error))
            elif isinstance(found, str) and isinstance(labels, tuple):
                state = _state(answer.state, labels, space.multi_label)
                job = answer.job or IMPORTED_JOB
                taken.append(replace(answer, image_id=found, labels=labels, state=state, job=job))
        imported = self._parts.store.add_answers(campaign.campaign_id, taken)
        return Imported(imported, len(taken) - imported, tuple(rejected))

    def review(
        self, campaign_id: str, decisions: Sequence[GivenLabel], reviewer: str
    ) -> tuple[int, tuple[RefusedLabel, ...]]:
        """Record an expert's decisions; they stand above what workers say. Returns the count and what was refused."""
        campaign = self._parts.store.get_campaign(campaign_id)
        space = campaign.spec.space
        taken: list[KnownLabel] = []
        rejected: list[RefusedLabel] = []
        resolved = resolve(self._parts.store, [decision.image for decision in decisions])
        for index, (decision, found) in enumerate(zip(decisions, resolved, strict=True)):
            labels = checked_labels(decision.labels, space.multi_label, may_be_empty=space.multi_label)
            error = _first_error(found, labels)
            if error is None and isinstance(labels, tuple):
                error = check_space(labels, space.classes)
            if error is not None:
                rejected.append(RefusedLabel(index, decision.image, error))
            elif isinstance(found, str) and isinstance(labels, tuple):
                taken.append(KnownLabel(found, labels))
        targets = set(campaign.spec.target_labels)
        self._parts.store.put_reviews(campaign.campaign_id, taken, reviewer, targets, self._parts.clock.now())
        return len(taken), tuple(rejected)

    def list_workers(self, campaign_id: str, size: int, token: str) -> tuple[list[WorkerRecord], str]:
        """A page of workers by id, and the next token."""
        limit = page_size(size, 100, 1000)
        campaign = self._parts.store.get_campaign(campaign_id)
        listing = f"workers:{campaign.campaign_id}"
        workers = self._parts.store.list_workers(campaign.campaign_id, text_of(token, listing), limit)
        return workers, token_after(listing, workers[-1].worker_id) if len(workers) == limit else ""

    def forget_worker(self, worker_id: str) -> tuple[int, str]:
        """Put a fresh pseudonym in place of a worker's; returns the answers under it, and it.

        Raises:
            NotFound: no answer is of that worker.
        """
        new_id = self._parts.new_id("forgotten")
        count = self._parts.store.forget_worker(worker_id, new_id, self._parts.clock.now())
        if not count:
            raise NotFound(f"there is no answer of worker {worker_id}", kind="worker", id=worker_id)
        self._parts.store.drop_forgotten()
        return count, new_id


def _first_error(found: str | GandtError, labels: tuple[str, ...] | GandtError) -> GandtError | None:
    if isinstance(found, GandtError):
        return found
    return labels if isinstance(labels, GandtError) else None


def _worker_error(worker_id: str) -> GandtError | None:
    try:
        check_id(worker_id, "worker_id")
    except InvalidInput as error:
        return error
    return None


def _state(state: AnswerState, labels: tuple[str, ...], multi_label: bool) -> AnswerState:
    """Without several labels an answer without any is blank: it says nothing."""
    empty = state is AnswerState.ANSWERED and not labels and not multi_label
    return AnswerState.BLANK if empty else state
