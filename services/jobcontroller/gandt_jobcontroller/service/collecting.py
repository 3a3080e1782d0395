# SPDX-License-Identifier: GPL-3.0-or-later
"""The steps that follow a labeling job at the backend and take in what it brought.

Answers are stored by (job, image, worker) before the money is settled, and a job is settled once: taking in the same
output again, also after a crash in between, changes nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import timedelta

from gandt.domain.catalog import QuarantinedAnswer
from gandt.domain.datasets import Answer
from gandt.domain.errors import NotFound
from gandt.domain.labeling.ground_truth import LineKind
from gandt.domain.labeling.job_output import JobOutput, read_job
from gandt.domain.labeling.jobs import BackendState, BackendStatus, JobState, LabelingJob
from gandt.domain.labeling.rounds import MAX_FAILED_PAGES
from gandt_jobcontroller.service.parts import Parts

MANIFEST_NAME = "/manifests/output/output.manifest"
MAX_TRIES = 10  # to find a complete output manifest, over about 15 minutes
EXCERPT_BYTES = 500
_OF_BACKEND = {
    BackendState.INITIALIZING: JobState.CREATED,
    BackendState.IN_PROGRESS: JobState.IN_PROGRESS,
    BackendState.STOPPING: JobState.STOPPING,
    BackendState.COMPLETED: JobState.COLLECTING,
    BackendState.FAILED: JobState.COLLECTING,
    BackendState.STOPPED: JobState.COLLECTING,
}


@dataclass(frozen=True, slots=True)
class Collected:
    """What taking in one job brought.

    Attributes:
        broken: the backend failed the job before anything was labeled; a person must look.
    """

    job: LabelingJob
    new_answers: int = 0
    failed_images: int = 0
    broken: bool = False


def poll_job(parts: Parts, job: LabelingJob) -> LabelingJob:
    """Ask how far a job is; an ended one becomes COLLECTING.

    Raises:
        Overloaded, BackendUnavailable, PermissionDenied, Unauthenticated: no answer now; the job goes on.
    """
    status = parts.backend.describe(job.job_name)
    if status is None:
        message = "the backend does not know the job (yet)"
        return parts.store.change_job(job.job_name, lambda now: replace(now, message=message), parts.clock.now())
    if job.state is JobState.STOPPING and status.state in (BackendState.INITIALIZING, BackendState.IN_PROGRESS):
        parts.backend.stop(job.job_name)  # our first request got lost

    def moved(now: LabelingJob) -> LabelingJob:
        state = _OF_BACKEND.get(status.state, now.state)
        if now.state is JobState.COLLECTING or (now.state is JobState.STOPPING and state is not JobState.COLLECTING):
            state = now.state
        return replace(
            now,
            state=state,
            message=status.failure_reason or ("stopping on request" if state is JobState.STOPPING else ""),
            arn=status.arn or now.arn,
            output_manifest_uri=status.output_manifest_uri or now.output_manifest_uri,
            pages_labeled=status.labeled,
            pages_failed=status.failed,
        )

    return parts.store.change_job(job.job_name, moved, parts.clock.now())


def collect_job(parts: Parts, job: LabelingJob) -> Collected:
    """Read an ended job's answers, keep them, and settle its money; or note to look again when they are not all there.

    Raises:
        Overloaded, BackendUnavailable, PermissionDenied, Unauthenticated: a store does not answer; try again.
    """
    if job.state.is_final:
        return Collected(job)
    status = parts.backend.describe(job.job_name) or BackendStatus(BackendState.UNKNOWN)
    output = _read(parts, job)
    never_began = status.state is BackendState.FAILED and output is None and status.labeled == 0
    if not never_began and (output is None or not output.is_complete(job.pages)) and job.tries < MAX_TRIES:
        return Collected(_look_again(parts, job, output))
    parts.checkpoint("output-read")
    pages = parts.store.job_pages(job.job_name)
    answers, strange = _sorted_answers(job, output, pages)
    new = parts.store.add_answers(job.campaign_id, answers)
    parts.checkpoint("answers-stored")
    parts.store.add_quarantine([*strange, *_quarantined(job, output)])
    settled = _settled(parts, job, status, output, answers)
    failed = _failed_images(status, pages, answers)
    ended = parts.store.settle_job(settled, failed, parts.clock.now())
    parts.checkpoint("settled")
    parts.store.drop_forgotten()
    broken = status.state is BackendState.FAILED and not answers
    return Collected(ended, new, len(failed), broken)


def _read(parts: Parts, job: LabelingJob) -> JobOutput | None:
    place = job.output_manifest_uri.removesuffix(MANIFEST_NAME) or f"{job.request.output_uri}/{job.job_name}"
    try:
        return read_job(parts.objects, place, job.request.label_attribute)
    except NotFound:
        return None


def _look_again(parts: Parts, job: LabelingJob, output: JobOutput | None) -> LabelingJob:
    lines = len(output.lines) if output else 0
    wait = min(2.0**job.tries, 180.0)

    def later(now: LabelingJob) -> LabelingJob:
        message = f"waiting for the output manifest: {lines} of {job.pages} lines are there"
        at = parts.clock.now() + timedelta(seconds=wait)
        return replace(now, tries=now.tries + 1, next_try_at=at, message=message)

    return parts.store.change_job(job.job_name, later, parts.clock.now())


def _sorted_answers(
    job: LabelingJob, output: JobOutput | None, pages: dict[str, str]
) -> tuple[list[Answer], list[QuarantinedAnswer]]:
    """Answers to images of the job, and those to images that it never asked about."""
    answers, strange = [], []
    for answer in output.answers if output else ():
        if answer.image_id in pages:
            answers.append(replace(answer, job=job.job_name, page=pages[answer.image_id]))
        else:
            excerpt = f"{answer.worker_id}: {answer.image_id} {list(answer.labels)}"[:EXCERPT_BYTES]
            strange.append(QuarantinedAnswer(job.job_name, job.output_manifest_uri, "image_unknown", excerpt))
    return answers, strange


def _quarantined(job: LabelingJob, output: JobOutput | None) -> list[QuarantinedAnswer]:
    found = output.quarantined if output else ()
    return [QuarantinedAnswer(job.job_name, q.source, q.rule, q.excerpt[:EXCERPT_BYTES]) for q in found]


def _settled(
    parts: Parts,
    job: LabelingJob,
    status: BackendStatus,
    output: JobOutput | None,
    answers: list[Answer],
) -> LabelingJob:
    """The job with its real counts and cost: labeled lines pay the fee, every page that was handed in its price."""
    kinds = [line.kind for line in output.lines] if output else []
    labeled = kinds.count(LineKind.LABELED)
    handed_in = {(_line(answer.page), answer.worker_id) for answer in answers}
    if output:
        handed_in |= {(q.object_id, q.worker_id) for q in output.quarantined if q.object_id and q.worker_id}
    prices = parts.store.get_campaign(job.campaign_id).spec.prices
    missing = job.pages - len(kinds)
    message = status.failure_reason
    if missing and status.state is not BackendState.FAILED:
        message = f"the output manifest never became complete: {len(kinds)} of {job.pages} lines"
    return replace(
        job,
        state=JobState.SETTLED,
        message=message,
        cost=prices.actual_cost(labeled, len(handed_in)),
        pages_labeled=labeled,
        pages_failed=job.pages - labeled,
    )


def _line(page: str) -> str:
    """Number of the manifest line of a page, which is also the backend's object id."""
    found = re.search(r"-(\d+)$", page)
    return str(int(found.group(1))) if found else page


def _failed_images(status: BackendStatus, pages: dict[str, str], answers: list[Answer]) -> dict[str, int]:
    """Images that nobody answered: their page failed or was not reached; those of a stopped job are given up."""
    answered = {answer.image_id for answer in answers}
    failures = MAX_FAILED_PAGES if status.state is BackendState.STOPPED else 1
    return {image_id: failures for image_id in pages if image_id not in answered}
